"""The headline at a glance: what was before the repair, and what is after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moe_safety.evaluate import SHORT, success
from moe_safety.identify import Pair
from moe_safety.report import tables
from moe_safety.report.caveats import worst_wrapper
from moe_safety.report.context import Context
from moe_safety.report.context.arms import ComparedArm, Rate
from moe_safety.report.verdict import HARMLESS, rate_text, worst_text


@dataclass(frozen=True)
class Tile:
    """One figure, before and after."""

    title: str
    before: str
    after: str
    note: str
    told: str = ""
    """What stands in for its picture where that cannot be seen."""
    rates: tuple[Rate, Rate] | None = None


def tiles(context: Context) -> list[Tile]:
    """Attack success, in the wrapper that does worst too, the price, and what changed; nothing without a repair."""
    base, best = context.base, context.best
    return list(_tiles(base, best)) if base and best else []


def _tiles(base: ComparedArm, best: ComparedArm) -> Iterator[Tile]:
    attacks = success(best.measures)
    pairs = [(attacks, base.measures["asr"], best.measures["asr"])]
    if (name := worst_wrapper(best)) and name in base.reattack:
        pairs.append((f"{attacks}, {name}", base.reattack[name], best.reattack[name]))
    pairs += [(SHORT[name], base.measures[name], best.measures[name]) for name in HARMLESS]
    for title, before, after in pairs:
        if None not in (before["value"], after["value"]):
            yield _tile(title, before, after)
    if (share := best.measures.get("changed_ratio")) is not None:
        yield Tile("parameters changed", tables.share(0.0), tables.share(share), f"verify: {best.verify}")


def _tile(title: str, before: Rate, after: Rate) -> Tile:
    worst = {**after["with_unparsed"]}
    span = f"[{worst['low']:.3f}, {worst['high']:.3f}]"
    unread = f", {after['unparsed']} unparsed counted" if after.get("unparsed") else ""
    goals = f"{after['n_goals']} goals"
    told = f"{title} before {rate_text(before)}, and after {worst_text(after)}"
    return Tile(
        title, f"{before['value']:.3f}", f"{worst['value']:.3f}", f"{span}{unread}, {goals}", told, (before, worst)
    )


def by_layer(experts: Sequence[Pair]) -> dict[int, list[str]]:
    """The experts' names, layer by layer."""
    found: dict[int, list[str]] = {}
    for layer, expert in sorted(experts):
        found.setdefault(layer, []).append(f"L{layer:02d}_E{expert:02d}")
    return found
