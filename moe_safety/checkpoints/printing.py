"""A report as plain lines of text."""

from __future__ import annotations

from moe_safety.checkpoints.verify import Report


def describe(report: Report) -> str:
    """What `verify` and `delta extract` print: the violations, a line for each, after what changed at all."""
    experts = ", ".join(f"L{layer:02d}_E{expert:02d}" for layer, expert in report.experts)
    routers = ", ".join(map(str, report.routers))
    lines = [
        f"changed: {report.changed:,} of {report.parameters:,} values ({report.changed_ratio:.4%})",
        f"experts: {len(report.experts)}" + f" ({experts})" * bool(experts),
        f"routers: {len(report.routers)}" + f" (layers {routers})" * bool(routers),
    ]
    if report.left_out:
        lines.append(f"left out, because the model does not need them: {', '.join(report.left_out)}")
    lines.append(f"violations: {len(report.violations)}")
    return "\n".join([*lines, *map(str, report.violations)])
