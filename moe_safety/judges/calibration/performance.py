"""How often a judge errs, as `calibrate-judge --json` measured it: what rates are corrected by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moe_safety.config import Question
from moe_safety.errors import InputError
from moe_safety.judges.calibration.scores import FULL


@dataclass(frozen=True)
class Counted:
    """`right` of `n` answers that people called alike."""

    right: int
    n: int

    @property
    def share(self) -> float:
        """The share of them."""
        return self.right / self.n


@dataclass(frozen=True)
class Performance:
    """A judge's verdicts by human label, on answers that are wholly one or the other."""

    confusion: Mapping[str, Mapping[str, int]]

    def of(self, verdict: str, *, with_unparsed: bool) -> tuple[Counted, Counted]:
        """Of answers that people call `verdict`, those that the judge calls so, or with `unparsed` among them, cannot
        read; and of the others, those that it does not."""
        called = {verdict, "unparsed"} if with_unparsed else {verdict}
        (other,) = self.confusion.keys() - {verdict}
        found, wrong = (sum(self.confusion[label].get(one, 0) for one in called) for label in (verdict, other))
        total, rest = (sum(self.confusion[label].values()) for label in (verdict, other))
        return Counted(found, total), Counted(rest - wrong, rest)


def read_performance(file: str, question: Question, judge: str, key: str) -> Performance:
    """The performance in a file; an error where it is that of another judge, or of another question."""
    found = _object(file, key)
    if found.get("question") != question:
        raise InputError(f"is no calibration of a judge of {question}", file=file, key=key)
    if found.get("judge") != judge:
        told = "was measured of another judge, or of another version of it; run `calibrate-judge --json` again"
        raise InputError(told, file=file, key=key)
    confusion = found.get("confusion") or {}
    rows: dict[str, dict[str, int]] = {label: confusion.get(label) or {} for label in FULL[question]}
    if empty := [label for label, row in rows.items() if not sum(row.values())]:
        raise InputError(f"no answer in it is {empty[0]}, so nothing is known of those", file=file, key=key)
    return Performance(rows)


def _object(file: str, key: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or "is no JSON of `calibrate-judge --json`"
        raise InputError(told, file=file, key=key) from None
    if not isinstance(found, dict):
        raise InputError("is no JSON of `calibrate-judge --json`", file=file, key=key)
    return found
