"""The columns of the page's tables: what stands in each cell, as text that can be copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from moe_safety.evaluate import metrics as metrics
from moe_safety.report.context.arms import ComparedArm, Rate
from moe_safety.report.context.training import Trained
from moe_safety.scores import SCORES

_FORMS = {"q_value": ".1e", "jaccard": ".2f"}
"""A column has one form throughout; scores have their own, and what is not named here a sign and four places."""


def shown(value: Any, column: str) -> str:
    """A number of a column of scores; nothing where it is unknown."""
    if value is None or value != value:
        return ""
    if isinstance(value, int | str):
        return str(value)
    form = SCORES.get(column).form if column in SCORES else _FORMS.get(column, "+.4f")
    return format(value, form)


def counted(rate: Rate) -> str:
    """How many answers, and of how many goals."""
    return f"n = {rate['n']} of {rate['n_goals']} goals"


def common_n(rates: Iterable[Rate | None]) -> str | None:
    """The n and the goals that all of these rates have; nothing where they differ, or there are none."""
    found = {counted(rate) for rate in rates if rate and rate["n"]}
    return found.pop() if len(found) == 1 else None


def shared(arms: Sequence[Any], columns: Mapping[str, Callable[[Any], str]]) -> dict[str, str]:
    """The columns that say the same of every one of several arms, and what: a caption has room for it."""
    said = {title: {shown(arm) for arm in arms} for title, shown in columns.items()}
    return {title: found.pop() for title, found in said.items() if len(found) == 1 < len(arms)}


def share(value: float | None) -> str:
    """A share as a percentage, empty where there is none."""
    return "" if value is None else f"{value:.1%}"


def number(value: float | None, form: str = ".3f") -> str:
    """A number in this form, empty where there is none."""
    return "" if value is None else format(value, form)


def size(value: int | None) -> str:
    """Bytes, in the unit that suits."""
    return "" if not value else f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


COSTS: dict[str, Callable[[ComparedArm], str]] = {
    "Stopped": lambda arm: _paired(arm, "b", "d"),
    "New": lambda arm: _paired(arm, "c", "d"),
    "p": lambda arm: _paired(arm, "p", ".1g"),
    "Benign loss": lambda arm: number(arm.measures["benign_loss"], ".4f"),
    "Exact answers": lambda arm: number(_value(arm.measures["benign_exact"])),
    "Trained": lambda arm: _trained(arm),
    "Tokens read": lambda arm: number(arm.measures.get("tokens_read"), ",.0f"),
    "Dose": lambda arm: number(arm.measures.get("dose"), ",.0f"),
    "Seconds": lambda arm: number(arm.measures.get("training_seconds"), ".1f"),
    "Memory": lambda arm: size(arm.measures.get("peak_memory_bytes")),
    "Changed": lambda arm: share(arm.measures.get("changed_ratio")),
    "Verify": lambda arm: arm.verify,
}

TRAINED: dict[str, Callable[[Trained], str]] = {
    "Steps": lambda arm: " + ".join(str(len(curve.loss)) for curve in arm.curves),
    "Epochs": lambda arm: str(arm.settings["num_epochs"]),
    "Learning rate": lambda arm: str(arm.settings["learning_rate"]),
    "Masking": lambda arm: str(arm.settings["masking"]),
    "Last loss": lambda arm: ", ".join(f"{curve.loss[-1]:.4f}" for curve in arm.curves),
    "Experts": lambda arm: str(arm.figures["total_unique_unsafe_experts"] or "all"),
    "Trainable": lambda arm: share(arm.figures["trainable_ratio"]),
    "Seconds a step": lambda arm: number(arm.figures["seconds_per_step"]),
    "Peak memory": lambda arm: size(arm.figures["peak_memory_bytes"]),
}

FOUND_AGAIN: dict[str, Callable[[ComparedArm], str]] = {
    "Experts": lambda arm: str(len(arm.measures["identified"]["experts"])),
    "Also the base's": lambda arm: str(arm.measures["identified"]["kept"]),
    "New": lambda arm: str(arm.measures["identified"]["new"]),
    "Highest risk difference": lambda arm: number(arm.measures["identified"]["highest_risk_diff"]),
    "Of the base": lambda arm: number(arm.measures["identified"]["highest_risk_diff_of_base"]),
}


def kinds_of_answers(arms: Iterable[ComparedArm]) -> list[str]:
    """The kinds of harmless request whose answers were compared with the base's."""
    return sorted({kind for arm in arms for kind in arm.answer_shift["kl"]})


def spread(repeats: dict[str, Any]) -> str:
    """Between seeds."""
    if repeats["mean"] is None:
        return ""
    return f"{repeats['mean']:.3f}" + ("" if repeats["std"] is None else f" ± {repeats['std']:.3f}")


def _trained(arm: ComparedArm) -> str:
    """How many parameters, and of which arm's experts where these are not its own."""
    of = arm.measures.get("experts_of")
    return number(arm.measures.get("trained_parameters"), ",.0f") + (f" (experts of {of})" if of else "")


def _paired(arm: ComparedArm, key: str, form: str) -> str:
    """Against the base, attack by attack; the test is of goals."""
    found = arm.measures.get("compared", {}).get("asr")
    return format(found[key], form) if found and found["n"] else ""


def _value(rate: Any) -> float | None:
    """A share may come with its n."""
    return rate["value"] if isinstance(rate, dict) else rate
