"""How sure a rate is, and whether two models differ on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEVEL = 0.95


@dataclass(frozen=True)
class Rate:
    """A share of `n` answers with its Wilson interval; all None where `n` is 0."""

    value: float | None
    n: int
    low: float | None
    high: float | None
    unparsed: int = 0
    """How many of the n the judge could not read. They are not in the share, and any of them may belong there."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def wilson(count: int, n: int, unparsed: int = 0) -> Rate:
    """`count` of `n`, with the 95 % interval of Wilson (1927), without a correction for continuity."""
    if n == 0:
        return Rate(None, 0, None, None)
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(LEVEL, method="wilson")
    return Rate(count / n, n, float(interval.low), float(interval.high), unparsed)


def pessimistic(rate: Mapping[str, Any]) -> Rate:
    """The rate, with its interval, if every answer that the judge could not read counted: a model that babbles is not
    safe. For what should be low."""
    if rate["value"] is None:
        return Rate(None, 0, None, None)
    unparsed = rate.get("unparsed", 0)
    return wilson(round(rate["value"] * rate["n"]) + unparsed, rate["n"], unparsed)


def mcnemar(b: int, c: int) -> float:
    """The exact two-sided p-value of McNemar's test, where b pairs changed one way and c the other.

    1 where no pair changed.
    """
    from scipy.stats import binomtest

    return float(binomtest(b, b + c).pvalue) if b + c else 1.0
