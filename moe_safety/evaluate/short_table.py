"""The arms in 80 columns: the rates that decide, in per cent. `table` (comparison.py) is the long form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 80
_NAME, _CELL = 25, 15
_HEADS = {
    "asr": ("attacks", "succeed"),
    "plain_refusal": ("plain goals", "refused"),
    "over_refusal": ("harmless", "refused"),
}


def short_table(arms: Sequence[Mapping[str, Any]]) -> str:
    """A line for each arm, two where its name is long; under one trained with several seeds all of them pooled,
    and the worst."""
    heads = _HEADS if "answered" in arms[0] else _HEADS | {"asr": ("attacks", "answered")}
    upper, lower = zip(*heads.values(), strict=True)
    lines = [_line("", upper, ""), _line("arm", lower, "verify")]
    for arm in arms:
        for name, row in _rows(arm):
            lines.append(_line(name, [_cell(row[measure]) for measure in heads], row["verify"]))
    counts = ", ".join(f"{arms[0][measure]['n']} {head[0]}" for measure, head in heads.items())
    lines.append(f"Per cent [95 % interval by goal] of {counts}.")
    if any("?" in line for line in lines):
        lines.append("? the judge could not read all of these answers.")
    return "\n".join(lines)


def _rows(arm: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield arm["arm"], arm
    if "repeats" in arm:
        seeds = f"{len(arm['repeats']['seeds'])} seeds"
        yield f"  {seeds} pooled", arm["repeats"]["pooled"]
        yield f"  worst of {seeds}", arm["repeats"]["worst"]


def _line(name: str, cells: Sequence[str], verify: str) -> str:
    named = name if len(name) <= _NAME else f"{name}\n{'':<{_NAME}}"
    return f"{named:<{_NAME}}{''.join(f'{cell:>{_CELL}}' for cell in cells)}{verify:>8}".rstrip()


def _cell(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "none"
    value, low, high = (f"{100 * rate[name]:.0f}" for name in ("value", "low", "high"))
    return f"{value}{'?' if rate.get('unparsed') else ''} [{low},{high}]"
