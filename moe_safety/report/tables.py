"""The columns of the page's tables: what stands in each cell, as text that can be copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_safety.report.context.arms import Arm
from moe_safety.report.context.training import Trained

_UNSIGNED = {"q_value", "jaccard", "gradient", "gradient_l2", "gradient_per_token"}


def shown(value: Any, column: str) -> str:
    """A number of a column of scores; nothing where it is unknown."""
    if value is None or value != value:
        return ""
    if isinstance(value, int | str):
        return str(value)
    if column in _UNSIGNED:
        return f"{value:.2g}"
    return f"{value:+.4f}" if abs(value) >= 0.001 or not value else f"{value:+.2e}"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def size(value: int | None) -> str:
    """Bytes, in the unit that suits."""
    return "" if not value else f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


COSTS: dict[str, Callable[[Arm], str]] = {
    "Attacks stopped, new": lambda arm: _paired(arm),
    "Benign loss": lambda arm: number(arm.measures["benign_loss"]),
    "Exact answers": lambda arm: share(_value(arm.measures["benign_exact"])),
    "Trainable": lambda arm: share(arm.measures.get("trainable_ratio")),
    "Changed": lambda arm: share(arm.measures.get("changed_ratio")),
    "Verify": lambda arm: arm.verify,
    "Seconds a step": lambda arm: number(arm.measures.get("seconds_per_step")),
    "Peak memory": lambda arm: size(arm.measures.get("peak_memory_bytes")),
}

TRAINED: dict[str, Callable[[Trained], str]] = {
    "Steps": lambda arm: " + ".join(str(len(curve.loss)) for curve in arm.curves),
    "Epochs": lambda arm: str(arm.settings["num_epochs"]),
    "Learning rate": lambda arm: str(arm.settings["learning_rate"]),
    "Masking": lambda arm: str(arm.settings["masking"]),
    "Last loss": lambda arm: ", ".join(f"{curve.loss[-1]:.4g}" for curve in arm.curves),
    "Experts": lambda arm: str(arm.figures["total_unique_unsafe_experts"] or "all"),
    "Trainable": lambda arm: share(arm.figures["trainable_ratio"]),
    "Seconds a step": lambda arm: number(arm.figures["seconds_per_step"]),
    "Peak memory": lambda arm: size(arm.figures["peak_memory_bytes"]),
}

FOUND_AGAIN: dict[str, Callable[[Arm], str]] = {
    "Experts": lambda arm: str(len(arm.measures["identified"]["experts"])),
    "The base's": lambda arm: str(arm.measures["identified"]["kept"]),
    "New": lambda arm: str(arm.measures["identified"]["new"]),
    "Highest risk difference": lambda arm: number(arm.measures["identified"]["highest_risk_diff"]),
    "Of the base": lambda arm: number(arm.measures["identified"]["highest_risk_diff_of_base"]),
}


def spread(repeats: dict[str, Any]) -> str:
    """Between seeds."""
    if repeats["mean"] is None:
        return ""
    return f"{repeats['mean']:.3f}" + ("" if repeats["std"] is None else f" ± {repeats['std']:.3f}")


def metrics(task: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in task.items())


def _paired(arm: Arm) -> str:
    """Against the base, prompt by prompt."""
    found = arm.measures.get("compared", {}).get("asr")
    return f"{found['b']}, {found['c']} (p {found['p']:.1g})" if found and found["n"] else ""


def _value(rate: Any) -> float | None:
    """A share may come with its n."""
    return rate["value"] if isinstance(rate, dict) else rate
