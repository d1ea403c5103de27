"""An arm that was trained with several seeds: all of them together, and the worst of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.evaluate.ability import benign_exact
from moe_safety.evaluate.comparison import FIGURES, SPREAD, number_of
from moe_safety.evaluate.measures import WITH_HARM, measures
from moe_safety.evaluate.statistics import over_seeds
from moe_safety.evaluate.suites import is_own

ArmObject = Mapping[str, Any]
"""As comparison.json has it."""
_HIGH_IS_GOOD = {"benign_exact", *(name for name, measure in WITH_HARM.items() if measure.good == "high")}


def with_repeats(arms: Mapping[int, ArmObject], responses: pa.Table) -> dict[str, Any]:
    """The arm of the run's own seed, which comes first, with what it reached with `each` seed, with all of them
    `pooled`, and where each figure is `worst`; `responses` are the answers of all seeds."""
    first, *others = found = list(arms.values())
    if not others:
        return dict(first)
    told = (*FIGURES, "reattack", "suites", "margins", "verify")
    repeats = {
        "seeds": list(arms),
        **{name: _spread([number_of(one[name]) for one in found]) for name in SPREAD if name in first},
        "each": [{name: one[name] for name in told if name in one} for one in found],
        "pooled": _pooled(found, responses),
        "worst": _worst(found),
    }
    return dict(first) | {"repeats": repeats}


def figures_over_seeds(reports: Sequence[Mapping[str, Any]], answers: Sequence[pa.Table]) -> dict[str, Any]:
    """What choices read of reports on validation goals, of one arm with all its seeds."""
    each = [_figures_of(report) for report in reports]
    if len(each) == 1:
        return each[0]
    responses = pa.concat_tables(answers)
    pooled = measures(responses.filter(is_own(responses)))["overall"]
    rates = {name: _of_the_method(rate, [one[name] for one in each]) for name, rate in pooled.items()}
    loss = _spread([one["benign_loss"] for one in each])["mean"]
    worst = worst_differences([one["differences"] for one in each])
    return rates | {"benign_loss": loss, "reattack": _reattacks(responses, each), "differences": worst}


def _figures_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What choices read of a report on validation goals."""
    told = {"benign_loss": report["benign_loss"], "reattack": report["reattack"]}
    return {**report["overall"], **told, "differences": report.get("differences", {})}


def worst_differences(seeds: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Mapping[str, Any]]:
    """Of what differs from the base with several seeds, each at the seed where its interval reaches highest."""
    names = dict.fromkeys(name for one in seeds for name in one)
    return {name: max((one[name] for one in seeds if name in one), key=_reach) for name in names}


def _reach(one: Mapping[str, Any]) -> float:
    return np.inf if one["high"] is None else float(one["high"])


def _reattacks(responses: pa.Table, each: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`asr` in each wrapper that training never saw, of all seeds; `each` has that of every one."""
    later = responses.filter(responses["reattack"])
    found = measures(later)["by_attack"] if len(later) else {}
    return {
        name: _of_the_method(rates["asr"], [one["reattack"][name] for one in each]) for name, rates in found.items()
    }


def by_seed(arm: ArmObject) -> dict[int | None, ArmObject]:
    """What it reached with each seed; under None where it was trained with one alone."""
    repeats = arm.get("repeats")
    return dict(zip(repeats["seeds"], repeats["each"], strict=True)) if repeats else {None: arm}


def _spread(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "values": values,
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }


def _pooled(arms: list[ArmObject], responses: pa.Table) -> dict[str, Any]:
    """Rates of the answers of all seeds together, of which those about one goal are still about one goal; of numbers
    the mean."""
    own = responses.filter(is_own(responses))
    again = _reattacks(responses, arms)
    found = measures(own)["overall"] | {"benign_exact": benign_exact(own)}
    found = {name: _of_the_method(rate, [one[name] for one in arms]) for name, rate in found.items()}
    others = [name for name in FIGURES if name in arms[0] and name not in found]
    numbers = {name: _spread([one[name] for one in arms])["mean"] for name in others}
    return found | numbers | {"reattack": again, "verify": _verify(arms)}


def _of_the_method(pooled: dict[str, Any], each: list[dict[str, Any]]) -> dict[str, Any]:
    """The pooled rate with intervals whose unit is the seed, then the goal."""
    spans = {"with_unparsed": over_seeds(pooled["with_unparsed"], [one["with_unparsed"]["value"] for one in each])}
    return pooled | over_seeds(pooled, [one["value"] for one in each]) | spans


def _worst(arms: list[ArmObject]) -> dict[str, Any]:
    """Each figure where it is worst, with unparsed answers at their worse end."""
    names = dict.fromkeys(name for one in arms for name in one.get("reattack", {}))
    again = {name: _worst_of(name, [one["reattack"][name] for one in arms]) for name in names}
    figures = {name: _worst_of(name, [one[name] for one in arms]) for name in FIGURES if name in arms[0]}
    return figures | {"reattack": again, "verify": _verify(arms)}


def _worst_of(name: str, given: list[Any]) -> Any:
    """What is not known is worst of all."""
    if name in _HIGH_IS_GOOD:
        return min(given, key=lambda one: -np.inf if (value := number_of(one)) is None else value)

    def badness(one: Any) -> float:
        value = number_of(one["with_unparsed"] if isinstance(one, Mapping) else one)
        return np.inf if value is None else value

    return max(given, key=badness)


def _verify(arms: list[ArmObject]) -> str:
    verdicts = [one["verify"] for one in arms]
    return "fail" if "fail" in verdicts else verdicts[0]
