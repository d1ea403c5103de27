"""What `identify` says when it is done."""

from __future__ import annotations

from typing import Any

from moe_safety.identify.summary import SIGNIFICANT

_CATEGORIES_SHOWN = 30

Figures = dict[str, Any]


def print_summary(manifest: Figures) -> None:
    """Prints the figures of a finished `identify`."""
    figures, rule = manifest["summary"], manifest["settings"]["identify"]
    unchanged = " (unchanged)" if manifest["skipped"] else ""
    print(f"identify: {figures['batches']} batches, {figures['experts']} experts{_counted(figures)}{unchanged}")
    print(f"  {figures['selected']} experts selected by {_method(rule, figures)}")
    if figures["ranking"] and not rule["top_p"] and figures["selected"] < rule["top_k"]:
        above = "" if figures["lowest"] is None else f" above {figures['lowest']}"
        print(f"  fewer than top_k {rule['top_k']}: no other expert has this score{above}")
    sizes = figures["per_batch"]
    print(
        f"  per batch: min {sizes['min']}, max {sizes['max']}, mean {sizes['mean']:.1f}, in any batch {sizes['union']}"
    )
    if figures["method"] in ("gradient", "causal"):
        print(f"  best by {figures['score']}: {', '.join(figures['best'])}")
    if figures["routed"]:
        _print_risk(figures)
    else:
        print("  no risk differences, tables or maps of them: these take the counts of `capture`, which was not run")


def _counted(figures: Figures) -> str:
    if not figures["routed"]:
        return ""
    return f"; counted tokens: {', '.join(f'{count} {label}' for label, count in figures['tokens'].items() if count)}"


def _print_risk(figures: Figures) -> None:
    _print_undefined(figures)
    _print_certainty(figures)
    print(f"  top {len(figures['top'])} by {figures['routing_score']}:")
    for row in figures["top"]:
        print(f"    {_rates(row)}{_interval(row)}{_adjusted(row)}")
    _print_groups("batch", figures["batch_top"], figures["batches"])
    _print_groups("category", figures["category_top"], len(figures["category_top"]), figures["category_selected"])


def _method(rule: Figures, figures: Figures) -> str:
    size = f"top_p {rule['top_p']}" if rule["top_p"] else f"top_k {rule['top_k']}"
    if not figures["ranking"]:
        return f"random, {size}"
    lowest = "" if figures["lowest"] is None else f" > {figures['lowest']}"
    ranked = f"{figures['ranking']}: {figures['score']}{lowest}, {size}"
    return ranked if rule["method"] == figures["ranking"] else f"{rule['method']}, as many as by {ranked}"


def _print_undefined(figures: Figures) -> None:
    if figures["uncounted"]:
        print(f"  {figures['uncounted']} prompts have no counted token")
    if figures["undefined_batches"]:
        lacking = f"{figures['undefined_batches']} batches lack counted tokens of a label"
        print(f"  {lacking}: their rates are undefined, null in the tables")
    if figures["undefined_experts"]:
        print(f"  {figures['undefined_experts']} experts have no score, for want of counted tokens of a label")


def _print_certainty(figures: Figures) -> None:
    print(f"  {figures['significant']} experts differ with q < {SIGNIFICANT} (goals drawn again)")
    correlation = figures["split_half"]
    print(f"  split-half rank correlation: {'undefined' if correlation is None else f'{correlation:.3f}'}")
    if not figures["adjusted"]:
        print("  no control-adjusted difference: that takes both control and benign prompts in the batches")


def _print_groups(kind: str, tops: dict[str, list[Figures]], total: int, selected: Figures | None = None) -> None:
    for name, rows in list(tops.items())[:_CATEGORIES_SHOWN]:
        size = f" ({selected[name]} selected)" if selected else ""
        listed = ", ".join(f"{row['Layer_Expert']} {row['risk_diff']:+.3f}" for row in rows)
        print(f"  {kind} {name}{size}: {listed or 'undefined'}")
    if total > min(len(tops), _CATEGORIES_SHOWN):
        print(f"  and {total - min(len(tops), _CATEGORIES_SHOWN)} more")


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
