"""`tune` as a job: python ray_jobs/tune.py SWEEP.yaml [--set key.path=value ...]"""

import sys

from moe_safety.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["tune", *sys.argv[1:]]))
