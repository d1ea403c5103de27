"""A benchmark with known answers: which score finds the experts that were taught to give in to an attack?

    python -m benchmarks.planted run [--seeds 10] [--shapes olmoe mixtral qwen3_moe] [--workers 2]
    python -m benchmarks.planted report

`run` writes one result for each shape and seed and goes on where it was stopped; `report` turns all results into
docs/identification.md and its pictures.
"""

from __future__ import annotations

import argparse

from moe_safety.models.demo.shapes import SHAPES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    run, report = steps.add_parser("run"), steps.add_parser("report")
    for step in (run, report):
        step.add_argument("--out", default="runs/planted", help="where results are kept")
    run.add_argument("--seeds", type=int, default=10, help="how many")
    run.add_argument("--first-seed", type=int, default=0)
    run.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    run.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    report.add_argument("--docs", default="docs")
    given = parser.parse_args()
    if given.step == "run":
        from benchmarks.planted.run import run_all

        seeds = range(given.first_seed, given.first_seed + given.seeds)
        run_all(given.out, given.shapes, seeds, given.workers)
    else:
        from benchmarks.planted.report import write_report

        write_report(given.out, given.docs)


if __name__ == "__main__":
    main()
