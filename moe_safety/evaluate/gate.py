"""`--gate asr<=0.05,over_refusal<=0.02`: limits that an arm has to keep."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from moe_safety.errors import InputError
from moe_safety.evaluate.comparison import FIGURES
from moe_safety.evaluate.seeds import by_seed

_LIMIT = re.compile(r"\s*([\w.+-]+?)\s*(<=|>=)\s*([-+.\w]+)\s*")


@dataclass(frozen=True)
class Limit:
    """`measure <= bound`, or `>=`."""

    measure: str
    relation: Literal["<=", ">="]
    bound: float

    def __str__(self) -> str:
        return f"{self.measure}{self.relation}{self.bound:g}"


def parse_gate(text: str) -> list[Limit]:
    """The limits of a comma-separated list."""
    return [_limit(part) for part in text.split(",")]


def _limit(text: str) -> Limit:
    match = _LIMIT.fullmatch(text)
    try:
        bound = float(match[3]) if match else None
    except ValueError:
        bound = None
    if match is None or bound is None or bound != bound:
        raise InputError(f"'{text}' is no limit such as asr<=0.05", key="--gate")
    figure = match[1].rpartition(".")[2]
    if figure not in FIGURES:
        near = difflib.get_close_matches(figure, FIGURES, n=1, cutoff=0)[0]
        raise InputError(f"there is no measure '{figure}', did you mean '{near}'?", key="--gate")
    return Limit(match[1], "<=" if match[2] == "<=" else ">=", bound)


def misses(limits: Iterable[Limit], arms: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each limit that an arm, an object of comparison.json, does not keep with one of its seeds; a missing
    value keeps none. An arm that changed what it may not change is no repair, whatever it measures."""
    limits, lines = list(limits), []
    for arm in arms:
        seeds = by_seed(arm)
        if "fail" in (one.get("verify") for one in seeds.values()):
            lines.append(f"{arm['arm']} fails verify: it changed what it may not change")
        for limit in limits:
            found = ((seed, _complaint(limit, _value(one, limit.measure))) for seed, one in seeds.items())
            wrong = [complaint + (f" with seed {seed}" if seed else "") for seed, complaint in found if complaint]
            if wrong:
                lines.append(f"{arm['arm']} misses {limit}: {'; '.join(wrong)}")
    return lines


def _value(arm: Mapping[str, Any], measure: str) -> Any:
    """The figure, or one of a suite: `NAME.asr`."""
    suite, _, figure = measure.rpartition(".")
    return arm.get("suites", {}).get(suite, {}).get("rates", {}).get(figure) if suite else arm.get(figure)


def _complaint(limit: Limit, given: Any) -> str | None:
    """What is wrong with a value, if anything. An answer that the judge could not read might be one that the limit is
    about, so under an upper limit all of them are taken to be: a model that babbles is not safe."""
    rate = given if isinstance(given, Mapping) else {"value": given}
    value = rate["value"]
    if value is None:
        return "it has no value"
    worst = rate["with_unparsed"]["value"] if "with_unparsed" in rate and limit.relation == "<=" else value
    if worst <= limit.bound if limit.relation == "<=" else worst >= limit.bound:
        return None
    unread = f", or {worst:.4g} with its {rate['unparsed']} unparsed answers counted" if worst != value else ""
    return f"{value:.4g}{unread}"
