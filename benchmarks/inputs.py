"""Time and memory of `prepare` on 100,000 rows of each kind. Run: python benchmarks/inputs.py [ROWS]."""

from __future__ import annotations

import csv
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from moe_safety.config import DataConfig
from moe_safety.inputs.prepare import read_prompts

SYLLABLES = ("bli", "ck", "zo", "rp", "da", "x", "wu", "g", "fro", "b", "é", "ti", "ma")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{'file':<16}{'rows':>9}{'prompts':>9}{'MB':>7}{'seconds':>9}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, source in _sources(Path(folder), rows):
            # A fresh process each, since the peak of a process never falls.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                prompts, seconds, peak = pool.apply(_measure, (source,))
            size = Path(source["path"]).stat().st_size / 1e6
            print(f"{name:<16}{rows:>9}{prompts:>9}{size:>7.0f}{seconds:>9.1f}{peak:>9.0f}", flush=True)


def _sources(folder: Path, rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
    random.seed(0)
    path = folder / "flipattack.json"
    with path.open("w") as file:
        for number in range(rows):
            file.write((",\n" if number else "[\n") + json.dumps(_flip_row(number)))
        file.write("]")
    yield "flipattack json", {"path": str(path)}

    path = folder / "messages.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            row = _flip_row(number)
            turns = [*row["all_prompt"], {"role": "assistant", "content": row["output"]}]
            file.write(json.dumps({"label": "unsafe", "goal": row["goal"], "messages": turns}) + "\n")
    yield "messages jsonl", {"path": str(path)}

    path = folder / "goals.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["goal", "target", "category"])
        writer.writerows([_words(600), "Sure", f"category {number % 40}"] for number in range(rows))
    yield "goals csv", {"path": str(path), "wrapper": "flip-word-order"}


def _flip_row(number: int) -> dict[str, Any]:
    goal = _words(100)
    flipped = " ".join(reversed(goal.split()))
    prompt = [{"role": "system", "content": _words(500)}, {"role": "user", "content": flipped}]
    row = {"id": number, "goal": goal, "flip_attack": flipped, "all_prompt": prompt, "output": _words(600)}
    return row | {"judge_success_dict": 0, "judge_score_gpt4": 10, "judge_success_gpt4": 1}


def _words(length: int) -> str:
    """Two pieces of one long text, which is made once."""
    text, half = _text(), length // 2
    return " ".join(text[start : start + half] for start in random.choices(range(len(text) - half), k=2)).strip()


@cache
def _text() -> str:
    words = ("".join(random.choices(SYLLABLES, k=random.randint(2, 4))) for _ in range(200_000))
    return " ".join(words)


def _measure(source: dict[str, Any]) -> tuple[int, float, float]:
    start = time.perf_counter()
    prepared = read_prompts(DataConfig.model_validate({"attacks": [source]}), seed=0)
    prepared.prompts.write(f"{source['path']}.parquet")
    seconds = time.perf_counter() - start
    return prepared.table.num_rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
