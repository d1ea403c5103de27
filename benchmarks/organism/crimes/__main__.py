"""Three crimes on small models of three families, each with its truth.

    python -m benchmarks.organism.crimes run [--crimes routed ...] [--seeds 10] [--shapes olmoe ...] [--workers 2]
    python -m benchmarks.organism.crimes report

`run` writes one result for each crime, shape, share and seed, and goes on where it was stopped; `report` turns the
results that are there into tables.
"""

from __future__ import annotations

import argparse

from benchmarks.organism.crimes.run import CRIMES, SHARES, run_all, tasks
from moe_safety.models.demo.shapes import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.organism.crimes", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    run, report = steps.add_parser("run"), steps.add_parser("report")
    for step in (run, report):
        step.add_argument("--out", default="runs/crimes", help="where results are kept")
    run.add_argument("--crimes", nargs="+", choices=CRIMES, default=CRIMES)
    run.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    run.add_argument("--shares", nargs="+", type=float, choices=SHARES, default=SHARES, help="of experts")
    run.add_argument("--seeds", type=int, default=10, help="how many")
    run.add_argument("--first-seed", type=int, default=0)
    run.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    given = parser.parse_args()
    if given.step == "run":
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        run_all(given.out, tasks(given.crimes, given.shapes, given.shares, seeds), given.workers)
    else:
        from benchmarks.organism.crimes.report import write_report

        print(write_report(given.out), end="")


if __name__ == "__main__":
    main()
