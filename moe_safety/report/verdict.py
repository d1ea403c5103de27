"""What was asked, and what came out of it, each in one sentence that follows from what was done."""

from __future__ import annotations

from collections.abc import Sequence

from moe_safety.arms import SELECTED
from moe_safety.evaluate import success_of
from moe_safety.report.context import Context
from moe_safety.report.context.arms import ComparedArm, Rate
from moe_safety.report.context.experts import Identification

HARMLESS = {"over_refusal": "harmless requests", "over_refusal_control": "harmless requests in the attack's wrapper"}


def question(context: Context) -> str:
    """The question that the report answers, by what was done: experts were sought, or models were tried."""
    hardened = [arm.name for arm in context.arms if arm is not context.base]
    if context.identification is None and context.arms:
        models = f" on {listed(hardened)}, and on {context.model} untouched" if hardened else f" on {context.model}"
        return f"Does the attack work{models}?"
    asked = f"Which experts of {context.model} does the attack reach that the same goals, asked plainly, do not"
    return f"{asked}, and does repairing only them stop it?" if context.training or hardened else f"{asked}?"


def verdict(context: Context) -> str:
    """The verdict, as far as the stages that are there can tell."""
    if context.base and context.best:
        kept_word = [arm for arm in context.arms if arm.is_compared and arm.verify != "fail"]
        return _of_comparison(context.base, context.best, kept_word)
    if failed := [arm.name for arm in context.arms if arm.verify == "fail"]:
        end = "they are no repairs" if len(failed) > 1 else "it is no repair"
        return f"{listed(failed)} changed what may not change, so {end}."
    if context.base:
        return _without_repair(context.base, [arm for arm in context.arms if arm.is_control])
    if context.identification is None:
        return "Nothing has been identified yet."
    return f"{_of_identification(context.identification)}; {_what_is_missing(context)}"


def beside(context: Context) -> list[str]:
    """What belongs to the headline where its arm trains more: what repairing chosen experts alone comes to."""
    best, repair = context.best, context.repair
    if best is None or best.measures["asr"]["value"] is None:
        return []
    found = []
    if repair is not None and repair is not best and repair.measures["asr"]["value"] is not None:
        wrappers = "".join(f", {worst_text(rate)} by {name}" for name, rate in repair.reattack.items() if rate["n"])
        success = success_of(repair.measures)
        told = f"{success} is {worst_text(repair.measures['asr'])}{wrappers}"
        tied = repair.measures.get("chosen_repair", {}).get("tied", [])
        do = "ties" if len(tied) == 1 else "tie"
        beside_it = f"; {listed(tied)} {do} with it, and it changes the least" if tied else ""
        found.append(f"Of the arms that train chosen experts alone the first is {repair.name}: {told}{beside_it}.")
    return found


def _of_comparison(base: ComparedArm, best: ComparedArm, arms: Sequence[ComparedArm]) -> str:
    before, after = base.measures, best.measures
    if before["asr"]["value"] is None or after["asr"]["value"] is None:
        return "No attack was evaluated, so nothing is known of a repair."
    drop, success = f"from {rate_text(before['asr'])} to {worst_text(after['asr'])}", success_of(before)
    if _lowers(base, best):
        sentence = f"With {best.name}, {success} on held-out goals falls {drop}"
    elif before["asr"]["with_unparsed"]["value"] == 0:
        sentence = f"No attack works on the untouched model; with {best.name}, {success} goes {drop}"
    elif effective := [arm.name for arm in arms if _lowers(base, arm)]:
        do = "lowers" if len(effective) == 1 else "lower"
        sentence = f"{listed(effective)} {do} {success}; {best.name}, {_why(best)}, does not: with it, {drop}"
    else:
        sentence = f"No arm lowers {success} beyond chance: with {best.name}, {_why(best)}, it goes {drop}"
    asked = [name for name in HARMLESS if None not in (before[name]["value"], after[name]["value"])]
    if asked:
        dearer = any(after[name]["with_unparsed"]["low"] > before[name]["high"] for name in asked)
        rates = {name: (after[name]["with_unparsed"]["value"], before[name]["value"]) for name in asked}
        prices = [f"{now:.3f} of {HARMLESS[name]} (base {then:.3f})" for name, (now, then) in rates.items()]
        sentence += f", {'but' if dearer else 'and'} it refuses {' and '.join(prices)}"
    return f"{sentence}{_what_changed(best)}."


def _why(best: ComparedArm) -> str:
    """Why the sentence is about this arm: no figure that it tells had a part in that."""
    return "chosen on validation goals" if best.chosen else "the first repair that is named"


def _lowers(base: ComparedArm, arm: ComparedArm) -> bool:
    """Whether attack success falls beyond chance, with every answer that nobody could read counted against the arm; of
    an arm that was trained with several seeds, with each of them."""
    worst = arm.measures["repeats"]["worst"] if "repeats" in arm.measures else arm.measures
    high = worst["asr"]["with_unparsed"]["high"]
    return high is not None and high < base.measures["asr"]["low"]


def _what_changed(arm: ComparedArm) -> str:
    share = arm.measures.get("changed_ratio")
    if share is None:
        return ""
    may_change = sorted(arm.declared.may_change if arm.declared else ()) or [SELECTED]
    free = listed(["its selection" if part == SELECTED else f"the {part}" for part in may_change])
    return f"; {share:.1%} of the parameters changed" + (f", none outside {free}" if arm.verify == "pass" else "")


def _without_repair(base: ComparedArm, controls: Sequence[ComparedArm]) -> str:
    """The sentence on the untouched model alone, or beside the experts of controls."""
    rate = base.measures["asr"]
    if rate["value"] is None:
        return "No attack was evaluated, and no repair either."
    beside = "".join(f", {rate_text(arm.measures['asr'])} with {arm.name}{_drawn(arm)}" for arm in controls)
    untouched = f"{rate_text(rate)} with the untouched model"
    success = success_of(base.measures)
    return f"{success[0].upper()}{success[1:]} on held-out goals is {untouched}{beside}; no repair was evaluated."


def _drawn(control: ComparedArm) -> str:
    return ", drawn by chance" if control.choice and control.choice.is_drawn else ", a control"


def _of_identification(found: Identification) -> str:
    summary = found.summary
    chosen = f"{summary['selected']} of {summary['experts']} experts are selected by {summary['method']}"
    if not summary["routed"]:
        return chosen
    score = summary["routing_score"]
    if not summary["top"]:
        return f"The attack reaches no expert more than plain goals do; {chosen}" if score == "risk_diff" else chosen
    top = summary["top"][0]
    rates = (top["a_unsafe_n"], top["a_safe_n"])
    if None in rates:
        return chosen
    reached = "{:.1%} of the tokens counted on attacks go there, {:.1%} of those on plain goals".format(*rates)
    if score != "risk_diff":
        return f"{top['Layer_Expert']} comes first by {score} ({reached}); {chosen}"
    if top["risk_diff"] <= 0:
        return f"The attack reaches no expert more than plain goals do; {chosen}"
    return f"The attack reaches {top['Layer_Expert']} more than any other expert ({reached}); {chosen}"


def _what_is_missing(context: Context) -> str:
    evaluated = {arm.name for arm in context.arms}
    names = [arm.name for arm in context.training if arm.name not in evaluated]
    if names:
        were = "was" if len(names) == 1 else "were"
        return f"{listed(names)} {were} trained, but whether the attack still works is not known yet."
    return "what the untouched model does is not known." if evaluated else "nothing has been repaired yet."


def rate_text(rate: Rate) -> str:
    """A rate with its interval, and how many answers got no verdict."""
    if rate["value"] is None:
        return "none"
    unread = f", {rate['unparsed']} unparsed" if rate.get("unparsed") else ""
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}{unread}]"


def worst_text(rate: Rate) -> str:
    """The same with every answer counted that nobody could read, as a repair is held to it."""
    if not rate.get("unparsed"):
        return rate_text(rate)
    worst = rate["with_unparsed"]
    return f"{worst['value']:.3f} [{worst['low']:.3f}, {worst['high']:.3f}, {rate['unparsed']} unparsed counted]"


def listed(names: Sequence[str]) -> str:
    """The names as a list in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
