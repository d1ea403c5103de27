"""Three crimes on small models of three families, each with its truth.

    python -m benchmarks.organism.crimes [--crimes routed ...] [--seeds 10] [--shapes olmoe ...] [--workers 2]

Writes one result for each crime, shape, share and seed, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse

from benchmarks.organism.crimes.run import CRIMES, run_all, tasks
from moe_safety.models.demo.shapes import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.organism.crimes", description=__doc__.splitlines()[0])
    parser.add_argument("--crimes", nargs="+", choices=CRIMES, default=CRIMES)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--out", default="runs/crimes", help="where results are kept")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    run_all(given.out, tasks(given.crimes, given.shapes, seeds), given.workers)


if __name__ == "__main__":
    main()
