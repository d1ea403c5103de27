"""How sure a rate is, and whether two models differ on the same prompts.

The unit is the goal: what a model makes of one form of a goal says much about the goal's other forms. With one prompt a
goal, intervals are Wilson's and the test is McNemar's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from moe_safety.judges import Counted

LEVEL = 0.95
PRIOR_GOALS = 2
"""So many goals, of each of which all answers are alike, are taken to have been seen beside the real ones. They keep an
estimate from few goals from saying by chance that answers to one goal are independent."""


DRAWS = 1 << 14
"""Behind each end of a corrected rate's interval."""


@dataclass(frozen=True)
class Span:
    """A share and its 95 % interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rate(Span):
    """A share of `n` answers, which are about `n_goals` goals; all None where `n` is 0."""

    n: int = 0
    n_goals: int = 0
    unparsed: int = 0
    """How many of the n the judge could not read. They are not in the share, and any of them may belong there."""
    with_unparsed: Span = field(default_factory=Span)
    """The same if each of them did: the worse end of what should be low, since a model that babbles is not safe."""

    def to_dict(self) -> dict[str, Any]:
        """The rate as plain data, for JSON."""
        return asdict(self)


def rate(goals: Sequence[str], counts: Sequence[bool], unread: Sequence[bool] | None = None) -> Rate:
    """Of answers to prompts about these goals, the share that `counts`; the judge could not read those in `unread`."""
    if not len(goals):
        return Rate()
    here = np.asarray(counts, dtype=bool)
    unknown = np.zeros_like(here) if unread is None else np.asarray(unread, dtype=bool)
    goal = np.unique(np.asarray(goals), return_inverse=True)[1]
    sizes = np.bincount(goal)
    share, most = (_span(np.bincount(goal, each), sizes) for each in (here, here | unknown))
    return Rate(**vars(share), n=len(here), n_goals=len(sizes), unparsed=int(unknown.sum()), with_unparsed=most)


def within(
    k: int, goals: Sequence[str], tries: Sequence[tuple[int, int]], with_unparsed: Sequence[tuple[int, int]]
) -> Rate:
    """The mean share of success within k tries at attacks on these goals. Of each attack `tries` has how many samples
    there are and how many succeed, and `with_unparsed` the same with those that nobody could read.

    Its interval is that of a share of goals. An attack's own share lies between 0 and 1, so it varies less than a yes
    or no would, and the interval is no narrower than it should be.
    """
    goal = np.unique(np.asarray(goals), return_inverse=True)[1]
    sizes = np.bincount(goal)
    spans = [
        _span(np.bincount(goal, [1 - math.comb(n - c, k) / math.comb(n, k) for n, c in each]), sizes)
        for each in (tries, with_unparsed)
    ]
    unread = sum(most - known for (_, known), (_, most) in zip(tries, with_unparsed, strict=True))
    return Rate(**vars(spans[0]), n=len(tries), n_goals=len(sizes), unparsed=unread, with_unparsed=spans[1])


def _span(found: np.ndarray, sizes: np.ndarray) -> Span:
    """From how many of each goal's answers count, and how many answers it has."""
    value = float(found.sum() / sizes.sum())
    return Span(value, *wilson(value, independent(found, sizes)))


def independent(found: np.ndarray, sizes: np.ndarray) -> float:
    """How many independent answers these are worth: n over the design effect 1 + (m - 1) r, where m is how many answers
    share a goal and r their intraclass correlation. Where no answer or every one counts, nothing is known of r, and
    they are worth as many as there are goals.

    r is what explains how far the goals' own shares lie apart, drawn towards 1 by `PRIOR_GOALS`: it is known from as
    many goals as have the rarer outcome. How far it may be off for all that, Student's t says.
    """
    n, goals, share = int(sizes.sum()), len(sizes), found.sum() / sizes.sum()
    shared = float((sizes**2).sum() / n)
    if shared == 1 or goals == 1 or share in (0, 1):
        return float(goals)
    from scipy.special import ndtri, stdtrit

    apart = ((found - share * sizes) ** 2).sum() * goals / (goals - 1)
    correlation = max(0.0, (apart / (n * share * (1 - share)) - 1) / (shared - 1))
    seen = min((found > 0).sum(), (found < sizes).sum())
    correlation = (correlation * seen + PRIOR_GOALS) / (seen + PRIOR_GOALS)
    tails = (1 + LEVEL) / 2
    wider = (stdtrit(goals - 1, tails) / ndtri(tails)) ** 2
    return float(n / (1 + (shared - 1) * correlation * wider))


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927), without a correction for continuity."""
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    middle = (2 * n * share + z**2) / (2 * (n + z**2))
    half = z / (2 * (n + z**2)) * math.sqrt(4 * n * share * (1 - share) + z**2)
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def corrected_rate(
    goals: Sequence[str], counts: Sequence[bool], sensitivity: Counted, specificity: Counted
) -> dict[str, Any]:
    """The true share behind a judge's, by Rogan and Gladen (1978): (share + specificity - 1) / (sensitivity +
    specificity - 1), where the judge's own two shares were counted on human labels.

    Its interval is the melded one of Bayer, Fay and Graubard (2023), which carries the uncertainty of all three: the
    quantiles of that formula where each is drawn from the lower, or the upper, of its confidence distributions. It is
    exact for each of the three and so errs on the wide side. The unit of the share is the goal, as everywhere.
    """
    goal = np.unique(np.asarray(goals), return_inverse=True)[1]
    sizes, found = np.bincount(goal), np.bincount(goal, np.asarray(counts, dtype=bool))
    share, n = float(found.sum() / sizes.sum()), independent(found, sizes)
    right, rejected = sensitivity.share, specificity.share
    chance = np.random.default_rng(0)
    ends = [
        _true_share(
            _drawn(chance, share * n, n, upper=upper),
            _drawn(chance, sensitivity.right, sensitivity.n, upper=not upper),
            _drawn(chance, specificity.right, specificity.n, upper=upper),
            unknown=float(upper),
        )
        for upper in (False, True)
    ]
    tail = (1 - LEVEL) / 2
    low, high = float(np.quantile(ends[0], tail)), float(np.quantile(ends[1], 1 - tail))
    known = right + rejected > 1
    value = float(_true_share(*map(np.asarray, (share, right, rejected)), unknown=0.0)) if known else None
    told = {"value": value, "low": low, "high": high, "judged": share}
    return told | {"sensitivity": right, "specificity": rejected, "labels": sensitivity.n + specificity.n}


def _drawn(chance: np.random.Generator, right: float, n: float, *, upper: bool) -> np.ndarray:
    """Draws from the lower or the upper confidence distribution of a share, those of Clopper and Pearson's interval."""
    a, b = (right + 1, n - right) if upper else (right, n - right + 1)
    if a <= 0 or b <= 0:
        return np.full(DRAWS, 0.0 if a <= 0 else 1.0)
    return chance.beta(a, b, DRAWS)


def _true_share(share: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray, *, unknown: float) -> np.ndarray:
    """`unknown` where the judge is no better than chance, so that its verdicts say nothing."""
    informed = sensitivity + specificity - 1
    safe = np.where(informed > 0, informed, 1.0)
    return np.where(informed > 0, np.clip((share + specificity - 1) / safe, 0, 1), unknown)


def over_seeds(pooled: Mapping[str, Any], values: Sequence[float | None]) -> dict[str, Any]:
    """The share of all seeds' answers, with an interval for the method and not for these trained models alone: to how
    unsure it is over goals, as `pooled` has it, is added how far the seeds' own `values` lie apart (Student's t on
    their mean), square and square. With few seeds it is wide, as it should be."""
    value, known = pooled["value"], [one for one in values if one is not None]
    span = {name: pooled[name] for name in ("value", "low", "high")}
    if value is None or len(known) < 2:
        return span
    from scipy.special import stdtrit

    apart = float(stdtrit(len(known) - 1, (1 + LEVEL) / 2)) * float(np.std(known, ddof=1)) / math.sqrt(len(known))
    low, high = math.hypot(value - span["low"], apart), math.hypot(span["high"] - value, apart)
    return {"value": value, "low": max(0.0, value - low), "high": min(1.0, value + high)}


def difference(goals: Sequence[str], now: Sequence[float], then: Sequence[float]) -> dict[str, Any]:
    """How far a share lies above another of the same prompts, each of which counts a number from 0 to 1 in either.

    The interval is put together of the two shares' own, whose unit is the goal, square and square, less what the goals'
    shares have in common (Newcombe 1998, method 10; Donner and Zou's MOVER). So it has a width where nothing differs.
    """
    goal = np.unique(np.asarray(goals), return_inverse=True)[1]
    sizes = np.bincount(goal)
    found = [np.bincount(goal, np.asarray(each, dtype=float)) for each in (now, then)]
    spans = [_span(each, sizes) for each in found]
    shares = np.array(found) / sizes
    alike = max(0.0, float(np.corrcoef(*shares)[0, 1])) if (shares.std(axis=1) > 0).all() else 0.0
    (value, low, high), (old, old_low, old_high) = (np.array([one.value, one.low, one.high], float) for one in spans)
    down, up = _apart(value - low, old_high - old, alike), _apart(high - value, old - old_low, alike)
    told = {"value": value - old, "low": value - old - down, "high": value - old + up}
    return {name: float(one) for name, one in told.items()} | {"n": len(goal), "n_goals": len(sizes)}


def _apart(one: float, other: float, alike: float) -> float:
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * alike * one * other))


def mean_difference(goals: Sequence[str], moved: Sequence[float], tokens: Sequence[int]) -> dict[str, Any]:
    """The sum of what `moved` over all tokens, and its interval over goals (of a ratio; Student's t). With one goal it
    is without bounds."""
    from scipy.special import stdtrit

    goal = np.unique(np.asarray(goals), return_inverse=True)[1]
    sums, sizes = np.bincount(goal, moved), np.bincount(goal, tokens)
    value, n = float(sums.sum() / sizes.sum()), len(sizes)
    told = {"value": value, "low": None, "high": None, "n": len(goal), "n_goals": n}
    if n == 1:
        return told
    error = math.sqrt(n / (n - 1) * float(((sums - value * sizes) ** 2).sum())) / float(sizes.sum())
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return told | {"low": value - half, "high": value + half}


def sign_flips(changes: Sequence[int]) -> float:
    """The two-sided p-value of the sum of what changed, a number for each goal, if every goal might as well have
    changed the other way. Exact: of all ways to choose the signs, the share whose sum is as far from 0.

    With changes of one answer a goal, it is that of McNemar's exact test. 1 where nothing changed.
    """
    chances = np.ones(1)
    """Of each sum of the goals that go up."""
    for change in filter(None, map(abs, changes)):
        chances = (np.pad(chances, (0, change)) + np.pad(chances, (change, 0))) / 2
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[np.abs(sums) >= abs(sum(changes))].sum()))
