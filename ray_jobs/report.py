"""`report` as a job: python ray_jobs/report.py CONFIG.yaml [--set key.path=value ...]"""

import sys

from moe_safety.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["report", *sys.argv[1:]]))
