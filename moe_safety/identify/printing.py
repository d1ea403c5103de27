"""What `identify` says, from the figures of its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill, wrap
from typing import Any

from moe_safety.config import SCORES, Config
from moe_safety.pipeline import RISK
from moe_safety.scores import RoutingScore, Score

SIZES_SHOWN, CATEGORIES_SHOWN = 200, 30
SIGNIFICANT = 0.05

Figures = dict[str, Any]


def summary_lines(config: Config, manifest: Figures) -> Iterator[str]:
    """What is said of a finished `identify`: the best by what it ranks by, and what surrounds them."""
    figures, rule = manifest["summary"], manifest["settings"]["identify"]
    yield f"identify: {figures['batches']} batches, {figures['experts']} experts"
    yield from _counted(figures)
    yield f"  {figures['selected']} experts selected by {_method(rule, figures)}"
    if figures["ranking"] and not rule["top_p"] and figures["selected"] < rule["top_k"]:
        above = "" if figures["lowest"] is None else f" above {figures['lowest']}"
        yield f"  fewer than top_k {rule['top_k']}: no other expert has this score{above}"
    sizes = figures["per_batch"]
    yield (
        f"  per batch: min {sizes['min']}, max {sizes['max']}, mean {sizes['mean']:.1f}, in any batch {sizes['union']}"
    )
    yield from _sizes_lines(sizes["sizes"])
    by_routing = figures["ranking"] == "routing"
    if not by_routing:
        yield from _best_lines(figures)
    if figures["routed"]:
        yield from _undefined_lines(figures)
        yield from _certainty_lines(figures)
        yield from _risk_lines(figures) if by_routing else (f"  how often attacks reach each expert: {RISK}",)
    else:
        yield "  no risk differences, tables or maps of them: these take the counts of `capture`, which was not run"


def _sizes_lines(sizes: dict[str, int]) -> Iterator[str]:
    """Each batch's number of experts, several on a line."""
    if len(set(sizes.values())) == 1:
        yield f"  experts of each batch: {max(sizes.values())}"
        return
    shown = [f"{batch}: {size}" for batch, size in list(sizes.items())[:SIZES_SHOWN]]
    more = [f"and {len(sizes) - SIZES_SHOWN} more"] if len(sizes) > SIZES_SHOWN else []
    yield from wrap(f"experts of batch {', '.join([*shown, *more])}", 80, initial_indent="  ", subsequent_indent="    ")


def _best_lines(figures: Figures) -> Iterator[str]:
    if figures["method"] != figures["ranking"]:
        yield f"  drawn: {', '.join(row['Layer_Expert'] for row in figures['best'])}"
        return
    score = SCORES.get(figures["score"])
    yield f"  best {len(figures['best'])} by {score.name}, {score.unit}:"
    for row in figures["best"]:
        yield f"    {row['Layer_Expert']:<9}{_number(row['score'], score.form):>9}  {_interval(row, score)}".rstrip()


def _counted(figures: Figures) -> Iterator[str]:
    if figures["routed"]:
        tokens = ", ".join(f"{count} {label}" for label, count in figures["tokens"].items() if count)
        yield f"  counted tokens: {tokens}"


def _risk_lines(figures: Figures) -> Iterator[str]:
    """The best by routing: the score with its interval, and the rates behind it."""
    score = SCORES.get(figures["routing_score"])
    assert isinstance(score, RoutingScore)
    yield f"  top {len(figures['top'])} by {score.name}, {score.unit}:"
    # Beside the difference itself stands the adjusted one, beside another score the difference.
    name, beside = ("adjusted", "risk_diff_control") if score.name == "risk_diff" else ("difference", "risk_diff")
    yield f"    {'expert':<9}{'score':>9}  {'95 % interval':<18}{'q':>7}{'unsafe':>8}{'safe':>8}{name:>12}"
    for row in figures["top"]:
        numbers = ((row["q_value"], ".2g", 7), (row["a_unsafe_n"], ".3f", 8), (row["a_safe_n"], ".3f", 8))
        rest = "".join(f"{_number(value, form):>{width}}" for value, form, width in numbers)
        value = _number(row[score.column], score.form)
        last = _number(row[beside], "+.3f")
        yield f"    {row['Layer_Expert']:<9}{value:>9}  {_interval(row, score):<18}{rest}{last:>12}"
    yield from _groups_lines("batch", figures["batch_top"], figures["batches"])
    yield from _groups_lines(
        "category", figures["category_top"], len(figures["category_top"]), figures["category_selected"]
    )


def _method(rule: Figures, figures: Figures) -> str:
    size = f"top_p {rule['top_p']}" if rule["top_p"] else f"top_k {rule['top_k']}"
    if not figures["ranking"]:
        return f"random, {size}"
    lowest = "" if figures["lowest"] is None else f" > {figures['lowest']}"
    ranked = f"{figures['ranking']}: {figures['score']}{lowest}, {size}"
    return ranked if rule["method"] == figures["ranking"] else f"{rule['method']}, as many as by {ranked}"


def _undefined_lines(figures: Figures) -> Iterator[str]:
    if figures["uncounted"]:
        yield f"  {figures['uncounted']} prompts have no counted token"
    if figures["undefined_batches"]:
        lacking = f"{figures['undefined_batches']} batches lack counted tokens of a label"
        yield f"  {lacking}: their rates are undefined, null in the tables"
    if figures["undefined_experts"]:
        yield f"  {figures['undefined_experts']} experts have no score, for want of counted tokens of a label"


def _certainty_lines(figures: Figures) -> Iterator[str]:
    yield f"  {figures['significant']} experts differ with q < {SIGNIFICANT} (goals drawn again)"
    correlation = figures["split_half"]
    yield f"  split-half rank correlation: {'undefined' if correlation is None else f'{correlation:.3f}'}"
    if not figures["adjusted"]:
        yield "  no control-adjusted difference: that takes both control and benign prompts in the batches"


def _groups_lines(
    kind: str, tops: dict[str, list[Figures]], total: int, selected: Figures | None = None
) -> Iterator[str]:
    for name, rows in list(tops.items())[:CATEGORIES_SHOWN]:
        size = f" ({selected[name]} selected)" if selected else ""
        listed = ", ".join(f"{row['Layer_Expert']} {row['risk_diff']:+.3f}" for row in rows)
        yield fill(f"  {kind} {name}{size}: {listed or 'none above 0'}", 80, subsequent_indent="    ")
    if total > min(len(tops), CATEGORIES_SHOWN):
        yield f"  and {total - min(len(tops), CATEGORIES_SHOWN)} more"


def _interval(row: Figures, score: Score) -> str:
    ends = [row.get(name) for name in score.interval or ()]
    return f"[{', '.join(format(end, score.form) for end in ends)}]" if ends and None not in ends else ""


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
