"""comparison.json and comparison.md: one object, and one row, for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RATES = ("asr", "plain_refusal", "over_refusal", "over_refusal_control", "unparsed")
SPREAD = (*RATES[:4], "benign_loss", "benign_exact")
"""What is told of every seed."""


def arm_object(
    name: str,
    report: Mapping[str, Any],
    trained: Mapping[str, Any] | None = None,
    verified: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An arm as comparison.json has it. One that trained nothing has changed nothing."""
    kept = ("benign_loss", "benign_exact", "routing_shift", "reattack", "tasks", "compared", "identified")
    return {
        "arm": name,
        **{measure: report["overall"][measure] for measure in RATES},
        **{key: report[key] for key in kept if key in report},
        "trainable_ratio": trained["trainable_ratio"] if trained else 0.0,
        "changed_ratio": verified["changed_ratio"] if verified else 0.0,
        "seconds_per_step": trained["seconds_per_step"] if trained else None,
        "peak_memory_bytes": trained["peak_memory_bytes"] if trained else None,
        "verify": verified["verify"] if verified else "n/a",
    }


def with_spread(first: dict[str, Any], repeats: Mapping[int, Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The arm of the run's own seed, with what the same arm reached with each further one."""
    if not repeats:
        return first
    seeds = [seed, *repeats]
    spread: dict[str, Any] = {"seeds": seeds}
    for measure in SPREAD:
        values = [_value(one[measure]) for one in (first, *repeats.values())]
        known = [value for value in values if value is not None]
        spread[measure] = {
            "values": values,
            "mean": float(np.mean(known)) if known else None,
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        }
    spread["verify"] = [one["verify"] for one in (first, *repeats.values())]
    return first | {"repeats": spread}


def table(arms: Sequence[Mapping[str, Any]]) -> str:
    """The arms as a Markdown table that reads well as plain text too."""
    again = list(dict.fromkeys(name for arm in arms for name in arm.get("reattack", {})))
    head = [
        "arm", "attack success", "plain refusal", "over-refusal", "wrapped", *(f"re-attack {name}" for name in again),
        "benign loss", "exact", "trained", "changed", "verify",
    ]  # fmt: skip
    return _aligned([head, *(_row(arm, again) for arm in arms)])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """The first of the rows is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def page(arms: Sequence[Mapping[str, Any]], split: str) -> str:
    """comparison.md."""
    text = (
        "# Comparison\n\n"
        f"Held-out prompts of the {split} split. Rates stand with their Wilson 95 % interval; attack success is the "
        "share of attacks that were answered, over-refusal the share of harmless requests refused, `wrapped` the same "
        "in the attack's own wrapper; `+n?` are answers that the judge could not read, each of which might count.\n\n"
        + table(arms)
        + "\n"
    )
    text += "\n## What else each arm did, and what it took\n\n" + _aligned([_COSTS, *map(_cost_row, arms)]) + "\n"
    counts = ", ".join(f"{arms[0][name]['n']} {label}" for name, label in _KINDS.items())
    text += f"\nPrompts: {counts}.\n"
    if repeated := [arm for arm in arms if "repeats" in arm]:
        text += "\n## Spread between seeds\n\n" + _spread_table(repeated) + "\n"
    return text


_KINDS = {
    "asr": "attacks",
    "plain_refusal": "plain goals",
    "over_refusal": "harmless requests",
    "over_refusal_control": "harmless requests in the wrapper",
}


def _row(arm: Mapping[str, Any], again: Sequence[str]) -> list[str]:
    return [
        arm["arm"],
        *(_rate(arm[measure]) for measure in RATES[:4]),
        *(_rate(arm["reattack"][name]) if name in arm.get("reattack", {}) else "" for name in again),
        _number(arm["benign_loss"], ".3f"),
        _number(_value(arm["benign_exact"]), ".3f"),
        _number(arm["trainable_ratio"], ".1%"),
        _number(arm["changed_ratio"], ".1%"),
        arm["verify"],
    ]


_COSTS = ["arm", "KL unsafe", "top-k kept unsafe", "KL benign", "seconds a step", "peak memory", "unparsed"]
"""The first three are routing shift: how far routers moved from the base's on the same tokens."""


def _cost_row(arm: Mapping[str, Any]) -> list[str]:
    shift = arm.get("routing_shift") or {"mean_kl": {}, "mean_overlap": {}}
    memory = arm["peak_memory_bytes"]
    return [
        arm["arm"],
        _number(shift["mean_kl"].get("unsafe"), ".4f"),
        _number(shift["mean_overlap"].get("unsafe"), ".3f"),
        _number(shift["mean_kl"].get("benign"), ".4f"),
        _number(arm["seconds_per_step"], ".3f"),
        "" if memory is None else f"{memory / 1e9:.2f} GB",
        _number(_value(arm["unparsed"]), ".3f"),
    ]


def _spread_table(arms: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"| arm | seeds | {' | '.join(SPREAD)} |", "|" + "---|" * (len(SPREAD) + 2)]
    for arm in arms:
        spread = arm["repeats"]
        cells = [f"{_number(spread[name]['mean'], '.3f')} ± {_number(spread[name]['std'], '.3f')}" for name in SPREAD]
        lines.append(f"| {arm['arm']} | {len(spread['seeds'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "none"
    unread = f" +{rate['unparsed']}?" if rate.get("unparsed") else ""
    return f"{rate['value']:.3f} [{rate['low']:.2f}, {rate['high']:.2f}]{unread}"


def _value(given: Any) -> float | None:
    return given["value"] if isinstance(given, Mapping) else given


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
