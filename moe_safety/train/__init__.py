"""Training: arms on the mixed batches, and the proof of what they changed."""

from __future__ import annotations

from typing import Any

from moe_safety.arms import arm_of
from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, SELECTION, STAGES, TRAINED, Stage
from moe_safety.train.printing import end_lines


def _needed(config: Config) -> bool:
    """Not where `compare` trains that arm."""
    return not config.compare.arms or arm_of(config).name not in config.compare.arms


def _train(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.train.train import train

    return train(config, **options)


STAGES.add(
    Stage(
        "train",
        "repair the selected experts: one arm (Ray Train, DeepSpeed)",
        _train,
        writes=(TRAINED,),
        reads=lambda: (BATCHES, SELECTION),
        lines=end_lines,
        section="train",
        needs_model=True,
        needed_when=_needed,
        example="--set train.arm=selective-causal",
    )
)
