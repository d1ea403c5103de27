"""The figures of `identify` worth keeping: plain data for the manifest, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Groups, Risk
from moe_safety.identify.experts import Experts
from moe_safety.identify.select import Rule
from moe_safety.scores import LABELS, SCORES, RoutingScore

TOP, GROUP_TOP, BATCHES_SHOWN = 10, 5, 5
GUILTY = 0.0
"""Experts are listed above it alone: those below are what refusing may hang on."""
SIGNIFICANT = 0.05

CATEGORIES_SHOWN = 30

TableRow = dict[Any, Any]
Figures = dict[str, Any]


def summarise(analysis: Analysis, settings: IdentifyConfig, uncounted: int) -> dict[str, Any]:
    """An undefined figure is None; without routing its figures are left out, and `routed` says so."""
    sizes = [len(chosen) for chosen in analysis.per_batch.values()]
    figures = {
        "method": settings.method,
        "score": settings.ranked_by,
        "ranking": settings.ranking,
        "lowest": settings.lowest,
        "best": [f"L{layer:02d}_E{expert:02d}" for layer, expert in analysis.selected[:TOP]],
        "experts": len(analysis.experts),
        "batches": len(sizes),
        "selected": len(analysis.selected),
        "per_batch": {
            "min": min(sizes),
            "max": max(sizes),
            "mean": float(np.mean(sizes)),
            "union": len(set().union(*analysis.per_batch.values())),
        },
        "routed": analysis.risk is not None,
    }
    if analysis.risk:
        figures |= {"uncounted": uncounted} | _risk_figures(analysis, analysis.risk)
    return figures


def _risk_figures(analysis: Analysis, risk: Risk) -> dict[str, Any]:
    scores = risk.scores()
    (best,) = Rule(GUILTY, TOP).choose(scores[None])
    return {
        "routing_score": risk.score.name,
        "tokens": dict(zip(LABELS, risk.batches.counts.tokens.sum(axis=0).tolist(), strict=True)),
        "undefined_experts": int(np.isnan(scores).sum()),
        "undefined_batches": int(np.isnan(risk.batches.scores()).any(axis=1).sum()),
        "significant": int((risk.table["q_value"] < SIGNIFICANT).sum()),
        "split_half": risk.split_half,
        "adjusted": risk.adjusted,
        "top": [_plain(row) for row in risk.table.iloc[best].to_dict("records")],
        "batch_top": _group_tops(analysis.experts, risk.batches[:BATCHES_SHOWN], analysis.batch_rows.batch_ids),
        "category_top": _group_tops(analysis.experts, risk.categories, analysis.batch_rows.categories),
        "category_selected": {name: len(chosen) for name, chosen in risk.per_category.items()},
    }


def _group_tops(experts: Experts, groups: Groups, keys: Any) -> dict[str, list[TableRow]]:
    """The best experts of each group by its own score, with its own rates."""
    columns = groups.columns()
    best = Rule(GUILTY, GROUP_TOP).choose(groups.scores())
    shown = ("a_safe_n", "a_unsafe_n", "risk_diff")
    return {
        str(key): [
            _plain({"Layer_Expert": experts.names[one]} | {name: columns[name][group, one] for name in shown})
            for one in chosen
        ]
        for group, (key, chosen) in enumerate(zip(keys, best, strict=False))
    }


def _plain(row: TableRow) -> TableRow:
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}


def summary_lines(manifest: Figures) -> Iterator[str]:
    """What is said of a finished `identify`."""
    figures, rule = manifest["summary"], manifest["settings"]["identify"]
    unchanged = " (unchanged)" if manifest["skipped"] else ""
    yield f"identify: {figures['batches']} batches, {figures['experts']} experts{_counted(figures)}{unchanged}"
    yield f"  {figures['selected']} experts selected by {_method(rule, figures)}"
    if figures["ranking"] and not rule["top_p"] and figures["selected"] < rule["top_k"]:
        above = "" if figures["lowest"] is None else f" above {figures['lowest']}"
        yield f"  fewer than top_k {rule['top_k']}: no other expert has this score{above}"
    sizes = figures["per_batch"]
    yield (
        f"  per batch: min {sizes['min']}, max {sizes['max']}, mean {sizes['mean']:.1f}, in any batch {sizes['union']}"
    )
    if figures["method"] == figures["ranking"] and not isinstance(SCORES.get(figures["score"]), RoutingScore):
        yield f"  best by {figures['score']}: {', '.join(figures['best'])}"
    if figures["routed"]:
        yield from _risk_lines(figures)
    else:
        yield "  no risk differences, tables or maps of them: these take the counts of `capture`, which was not run"


def _counted(figures: Figures) -> str:
    if not figures["routed"]:
        return ""
    return f"; counted tokens: {', '.join(f'{count} {label}' for label, count in figures['tokens'].items() if count)}"


def _risk_lines(figures: Figures) -> Iterator[str]:
    yield from _undefined_lines(figures)
    yield from _certainty_lines(figures)
    yield f"  top {len(figures['top'])} by {figures['routing_score']}:"
    for row in figures["top"]:
        yield f"    {_rates(row)}{_interval(row)}{_adjusted(row)}"
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
        yield f"  {kind} {name}{size}: {listed or 'none above 0'}"
    if total > min(len(tops), CATEGORIES_SHOWN):
        yield f"  and {total - min(len(tops), CATEGORIES_SHOWN)} more"


def _rates(row: Figures) -> str:
    return (
        f"{row['Layer_Expert']}  unsafe {row['a_unsafe_n']:.3f}  safe {row['a_safe_n']:.3f}  "
        f"difference {row['risk_diff']:+.3f}"
    )


def _interval(row: Figures) -> str:
    if row["low"] is None or row["q_value"] is None:
        return ""
    return f"  [{row['low']:+.3f}, {row['high']:+.3f}]  q {row['q_value']:.2g}"


def _adjusted(row: Figures) -> str:
    return "" if row["risk_diff_control"] is None else f"  control-adjusted {row['risk_diff_control']:+.3f}"
