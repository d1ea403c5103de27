"""Whether a split has the prompts without which nothing is measured."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow.compute as pc

from moe_safety.config import Config
from moe_safety.errors import InputError
from moe_safety.pipeline import PROMPTS
from moe_safety.rundir import RunDir

_KINDS = {"safe": "plain goal", "unsafe": "attack", "benign": "benign request", "control": "control request"}
_KEYS = {"test": "data.test_fraction", "validation": "data.validation_fraction", "train": "evaluate.split"}
"""What decides how many prompts a split has."""


def check_asked(config: Config, run: RunDir, labels: Iterable[str]) -> None:
    """Refuses, before anything is trained for it, an examination that would ask no prompt of one of these kinds."""
    split, prompts = config.evaluate.split, run.read_table(PROMPTS, ["label", "split"])
    there = set(prompts.filter(pc.equal(prompts["split"], split))["label"].to_pylist())
    if missing := [_KINDS[label] for label in labels if label not in there]:
        complaint = f"no {missing[0]} is in the {split} split, so what is trained could not be measured"
        raise InputError(f"{complaint}; give more goals, or another share of them", key=_KEYS[split])


def has_prompts(run: RunDir, split: str, label: str) -> bool:
    """Whether the split has prompts of this kind."""
    prompts = run.read_table(PROMPTS, ["label", "split"])
    return bool(pc.any(pc.and_(pc.equal(prompts["split"], split), pc.equal(prompts["label"], label))).as_py())
