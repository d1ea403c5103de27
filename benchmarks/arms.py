"""What every arm does to the demo model, and what it takes: the table of docs/arms.md.

    python benchmarks/arms.py [FOLDER] [SEED ...]

Trains and asks all arms of configs/arms.yaml with each of five seeds, or with those that are named, on the same
batches. Half an hour on two idle cores. What stands in FOLDER is not done again.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from moe_safety.everything import load_config
from moe_safety.pipeline import run_all
from moe_safety.rundir import RunDir

SEEDS = (42, 1, 2, 3, 4)
RATES = {"asr": "attack success", "over_refusal": "over-refusal", "over_refusal_control": "in the wrapper"}
HEAD = (
    *("arm", *RATES.values(), "benign loss", "trained parameters", "changed", "tokens read", "dose"),
    *("seconds", "peak memory"),
)


def compared(folder: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Each arm's object in comparison.json."""
    first, *others = seeds
    flags = [f"run_dir={json.dumps(folder)}", f"seed={first}", f"compare.seeds={others}"]
    config = load_config("configs/arms.yaml", flags)
    with redirect_stdout(sys.stderr):
        run_all(config)
    found: list[dict[str, Any]] = RunDir(config.run_dir).read_json("comparison.json")
    return found


def table(arms: Sequence[Mapping[str, Any]]) -> str:
    """In Markdown. Rates and losses are means over seeds, with the lowest and the highest; what an arm takes is that of
    the first seed."""
    rows = [HEAD, ["---"] * len(HEAD), *map(_row, arms)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(arm: Mapping[str, Any]) -> list[str]:
    memory = arm["peak_memory_bytes"]
    return [
        f"`{arm['arm']}`",
        *(_spread(_values(arm, name)) for name in (*RATES, "benign_loss")),
        f"{arm['trained_parameters']:,}",
        f"{arm['changed_ratio']:.1%}",
        f"{arm['tokens_read']:,}",
        f"{arm['dose']:,.0f}",
        f"{arm['training_seconds']:.1f}",
        f"{memory / 1e9:.2f} GB" if memory else "",
    ]


def _values(arm: Mapping[str, Any], name: str) -> list[float]:
    if "repeats" in arm:
        return list(arm["repeats"][name]["values"])
    return [arm[name]["value"] if isinstance(arm[name], Mapping) else arm[name]]


def _spread(values: Sequence[float]) -> str:
    mean, ends = f"{statistics.mean(values):.3f}", (min(values), max(values))
    return mean if len(set(values)) == 1 else f"{mean} ({ends[0]:.3f} to {ends[1]:.3f})"


if __name__ == "__main__":
    seeds = tuple(map(int, sys.argv[2:])) or SEEDS
    with tempfile.TemporaryDirectory() as folder:
        print(table(compared(sys.argv[1] if len(sys.argv) > 1 else folder, seeds)))
