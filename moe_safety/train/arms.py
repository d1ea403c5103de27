"""What an arm is called, here and in the earlier scripts' metadata."""

from __future__ import annotations

from moe_safety.config import Config


def arm_name(config: Config) -> str:
    """The arm that `train` runs with this configuration."""
    train = config.train
    if train.mode == "baseline":
        return "baseline"
    name = repairs_by(config.identify.method)
    return f"{name}+router" if train.router.enabled else name


def repairs_by(method: str) -> str:
    """The arm that repairs what a method of `identify` selects."""
    return method.replace("_", "-") if method.startswith("random") else f"selective-{method}"


def training_mode(config: Config) -> str:
    """`training_mode` of the metadata."""
    if config.train.mode == "baseline":
        return "full_model_baseline"
    return (
        "selective_experts" if not config.identify.method.startswith("random") else f"{config.identify.method}_experts"
    )


def note(config: Config) -> str:
    """In a sentence, what the run was."""
    train = config.train
    if train.mode == "baseline":
        return "Every parameter was trained on the mixed batches, as a baseline."
    router = " followed by a router phase" if train.router.enabled else ""
    rounds = f"{train.num_rounds} rounds" if train.num_rounds > 1 else "one round"
    return (
        f"Only the experts selected by {config.identify.method} were trained, with {train.masking} masking, in {rounds}"
        f"{router}; everything else is bit-identical to the base."
    )
