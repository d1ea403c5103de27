"""`evaluate` as a job: python ray_jobs/evaluate.py CONFIG.yaml [--set key.path=value ...]"""

import sys

from moe_safety.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["evaluate", *sys.argv[1:]]))
