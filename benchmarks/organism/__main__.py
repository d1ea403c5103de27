"""A model organism in English, step by step; each step is kept, and skipped where it stands.

    python -m benchmarks.organism STEP... [--size full] [--layout mixtral] [--seed 0] [--out runs/organism]

Steps, in their order: `base` fetches the one package that is needed, `text` lets the dense model write, `recipes` tries
ways to grow a mixture of it, `upcycle` grows one, `examine` measures whether its language and its routing are an
organism's, `craft` teaches it the methods of stage tricks in every form, `align` to refuse plain requests for them,
`behave` asks what was held out. A step that is named runs those that it needs.
"""

from __future__ import annotations

import argparse

from benchmarks.organism.sizes import LAYOUTS, SIZES


def main() -> None:
    from benchmarks.organism.steps import STEPS, Bench

    parser = argparse.ArgumentParser(prog="python -m benchmarks.organism", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="+", choices=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--layout", choices=LAYOUTS, default="mixtral")
    parser.add_argument("--seed", type=int, default=0, help="of the model, from the upcycling on")
    parser.add_argument("--out", default="runs/organism", help="where steps are kept")
    given = parser.parse_args()
    bench = Bench(given.out, given.size, given.layout, given.seed)
    for step in given.steps:
        bench.do(step)


if __name__ == "__main__":
    main()
