"""What was asked, and what came out of it, each in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from moe_safety.evaluate.arms import ROUTER
from moe_safety.evaluate.statistics import pessimistic
from moe_safety.report.context import Context
from moe_safety.report.context.arms import Arm, Rate
from moe_safety.report.context.experts import Identification

_HARMLESS = {"over_refusal": "harmless requests", "over_refusal_control": "harmless requests in the attack's wrapper"}


def question(context: Context) -> str:
    """From the configuration, and from whether anything was repaired."""
    asked = f"Which experts of {context.model} does the attack reach that the same goals, asked plainly, do not"
    return f"{asked}, and does repairing only them stop it?" if context.training or context.arms else f"{asked}?"


def verdict(context: Context) -> str:
    """As far as the stages that are there can tell."""
    if context.base and context.best:
        kept_word = [arm for arm in context.arms if arm.is_compared and arm.verify != "fail"]
        return _of_comparison(context.base, context.best, kept_word)
    if any(arm.verify == "fail" for arm in context.arms):
        return "Every arm changed what it may not change, so none counts as a repair."
    if context.identification is None:
        return "Nothing has been identified yet."
    return f"{_of_identification(context.identification)}; {_what_is_missing(context)}"


def caveats(context: Context) -> list[str]:
    """What the verdict alone would hide, each in one sentence."""
    base, best, old = context.base, context.best, _outdated(context.outdated)
    if base is None or best is None or best.measures["asr"]["value"] is None:
        return old
    chance = _by_chance(best, [arm for arm in context.arms if arm.by_chance])
    return [*old, *_unread(best), *chance, *_elsewhere(base, best)]


def _outdated(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"The comparison is older than {names[0]}{more}: run `compare` again."]


def _of_comparison(base: Arm, best: Arm, arms: Sequence[Arm]) -> str:
    before, after = base.measures, best.measures
    if before["asr"]["value"] is None or after["asr"]["value"] is None:
        return "No attack was evaluated, so nothing is known of a repair."
    drop = f"from {rate_text(before['asr'])} to {rate_text(after['asr'])}"
    worst = {name: pessimistic(after[name]) for name in ("asr", *_HARMLESS)}
    if _lowers(base, best):
        sentence = f"With {best.name}, attack success on held-out goals falls {drop}"
    elif effective := [arm.name for arm in arms if _lowers(base, arm)]:
        do = "lowers" if len(effective) == 1 else "lower"
        price = f"at a price that leaves {best.name} the least harmful"
        sentence = f"{_list(effective)} {do} attack success, {price}: with it, {drop}"
    else:
        sentence = f"No arm lowers attack success beyond chance: with {best.name}, the best, it goes {drop}"
    asked = [name for name in _HARMLESS if None not in (before[name]["value"], after[name]["value"])]
    if asked:
        dearer = any((worst[name].low or 0.0) > before[name]["high"] for name in asked)
        prices = [
            f"{after[name]['value']:.3f} of {_HARMLESS[name]} (base {before[name]['value']:.3f})" for name in asked
        ]
        sentence += f", {'but' if dearer else 'and'} it refuses {' and '.join(prices)}"
    return f"{sentence}{_what_changed(best)}."


def _lowers(base: Arm, arm: Arm) -> bool:
    """Whether attack success falls beyond chance, with every answer that nobody could read counted against the arm."""
    high = pessimistic(arm.measures["asr"]).high
    return high is not None and high < base.measures["asr"]["low"]


def _what_changed(arm: Arm) -> str:
    share = arm.measures.get("changed_ratio")
    if share is None:
        return ""
    free = "its selection and the routers" if arm.name.endswith(ROUTER) else "its selection"
    return f"; {share:.1%} of the parameters changed" + (f", none outside {free}" if arm.verify == "pass" else "")


def _unread(best: Arm) -> list[str]:
    """A model that babbles neither gives in nor refuses, and is not safe for it."""
    rates = {name: best.measures[name] for name in ("asr", *_HARMLESS) if best.measures[name].get("unparsed")}
    if not rates:
        return []
    asked = {"asr": "attacks", **_HARMLESS}
    told = [f"{rate['unparsed']} of {rate['n']} answers to {asked[name]}" for name, rate in rates.items()]
    return [f"The judge could not read {_list(told)} of {best.name}; the verdict counts each of them against it."]


def _by_chance(best: Arm, controls: Sequence[Arm]) -> list[str]:
    """Whether experts that nothing speaks for do as well as the selected ones."""
    known = [arm for arm in controls if arm.measures["asr"]["value"] is not None]
    if not known or not best.name.startswith("selective"):
        return []
    arm = min(known, key=lambda one: pessimistic(one.measures["asr"]).value or 0.0)
    rate, worst = arm.measures["asr"], pessimistic(best.measures["asr"]).high
    if worst is not None and rate["low"] > worst:
        return [f"Experts chosen at random ({arm.name}) leave it at {rate_text(rate)}: the choice of experts matters."]
    end = "so these figures do not show that the choice of experts matters."
    return [f"Experts chosen at random ({arm.name}) bring it to {rate_text(rate)}, {end}"]


def _elsewhere(base: Arm, best: Arm) -> list[str]:
    """The wrapper, of those that training never saw, in which most attacks succeed."""
    rates = {name: rate for name, rate in best.reattack.items() if rate["value"] is not None}
    if not rates:
        return []
    name = max(rates, key=lambda each: pessimistic(rates[each]).value or 0.0)
    before = base.reattack[name]["value"] if name in base.reattack else None
    known = "" if before is None else f" (base {before:.3f})"
    return [f"In {name}, a wrapper that training never saw, {rate_text(rates[name])} of the attacks succeed{known}."]


def _of_identification(found: Identification) -> str:
    summary = found.summary
    chosen = f"{summary['selected']} of {summary['experts']} experts are selected by {summary['method']}"
    if not summary["routed"] or not summary["top"]:
        return chosen
    top = summary["top"][0]
    reached = f"{top['a_unsafe_n']:.1%} of an attack's tokens go there, against {top['a_safe_n']:.1%} of a plain goal's"
    return f"The attack reaches {top['Layer_Expert']} more than any other expert ({reached}); {chosen}"


def _what_is_missing(context: Context) -> str:
    names = [arm.name for arm in context.training]
    if not names:
        return "nothing has been repaired yet."
    were = "was" if len(names) == 1 else "were"
    return f"{_list(names)} {were} trained, but whether the attack still works is not known yet."


def rate_text(rate: Rate) -> str:
    """A rate with its interval, and how many answers got no verdict."""
    if rate["value"] is None:
        return "none"
    unread = f", {rate['unparsed']} unparsed" if rate.get("unparsed") else ""
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}{unread}]"


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
