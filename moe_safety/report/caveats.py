"""What the verdict alone would hide, each in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from moe_safety.arms import ARMS, BASE
from moe_safety.evaluate import success_of
from moe_safety.evaluate.budgets import ENOUGH_DRAWS
from moe_safety.evaluate.comparison import told_choice
from moe_safety.report.context import Context
from moe_safety.report.context.arms import ComparedArm, worst_of
from moe_safety.report.verdict import HARMLESS, listed, rate_text, worst_text


def caveats(context: Context) -> list[str]:
    """The caveats of a verdict on a repair; that a comparison is old is said in any case."""
    return [told for sentences in by_topic(context).values() for told in sentences]


def by_topic(context: Context) -> dict[str, list[str]]:
    """The same by what they are about."""
    base, best, old = context.base, context.best, {"comparison": _outdated(context.outdated)}
    if base is None or best is None or None in (base.measures["asr"]["value"], best.measures["asr"]["value"]):
        return old
    return old | {
        "judges": [*_unread(base, "none of them as a success"), *_unread(best, "each of them against it")],
        "harmless": _unasked(best),
        "seeds": _with_other_seeds(best),
        "controls": [
            *beside_controls(best, controls_of("experts", context.arms)),
            *_beside_others_masks(best, context.arms),
        ],
        "wrappers": _elsewhere(base, best),
        "choice": _choice(best, context.arms),
    }


def _choice(best: ComparedArm, arms: Sequence[ComparedArm]) -> list[str]:
    """How the arm was chosen."""
    if best.chosen:
        return [told_choice(best.name, best.chosen)]
    others = [arm for arm in arms if arm.name not in (BASE, best.name) and not arm.is_control]
    if not others:
        return []
    return [f"No validation goals were there to choose by: {best.name} is the first repair that is named."]


def _outdated(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"The comparison is older than {names[0]}{more}: run `compare` again."]


def _unread(arm: ComparedArm, counted: str) -> list[str]:
    """A model that babbles neither gives in nor refuses, and is not safe for it."""
    rates = {name: arm.measures[name] for name in ("asr", *HARMLESS) if arm.measures[name].get("unparsed")}
    if not rates:
        return []
    asked = {"asr": "attacks", **HARMLESS}
    told = [f"{rate['unparsed']} of {rate['n']} answers to {asked[name]}" for name, rate in rates.items()]
    return [f"The judge could not read {listed(told)} of {arm.name}; the verdict counts {counted}."]


def _unasked(best: ComparedArm) -> list[str]:
    """What was not measured counts for nothing in the choice of the best, and is not known to be good."""
    unknown = [words for name, words in HARMLESS.items() if best.measures[name]["value"] is None]
    return [f"No {listed(unknown)} were asked, so what the repair costs there is not known."] if unknown else []


def _with_other_seeds(best: ComparedArm) -> list[str]:
    repeats = best.measures.get("repeats")
    if not repeats:
        return []
    pooled, worst = (rate_text(repeats[case]["asr"]) for case in ("pooled", "worst"))
    seeds = len(repeats["seeds"])
    success = success_of(best.measures)
    return [f"That is with the run's own seed: over {seeds} seeds {success} is {pooled}, with the worst {worst}."]


def beside_controls(best: ComparedArm, controls: Sequence[ComparedArm]) -> list[str]:
    """Whether experts of a control do as well as the selected ones."""
    arm = strongest(controls)
    if arm is None or not best.repairs:
        return []
    matched = arm.measures.get("control_of")
    # A control of another selection is of another size, or stands in other layers.
    same = matched is None or (matched in ARMS and ARMS.get(matched).choice == best.choice)
    elsewhere = "" if same else f", matched to {matched}"
    assert arm.choice
    told, rate = f"Experts {arm.choice.words} ({arm.name}{elsewhere})", rate_text(arm.measures["asr"])
    if does_as_well(arm, best):
        end = "so these figures do not show that the choice of experts matters"
        return [f"{told} bring it to {rate}, {end}."]
    # Of one draw nobody can say whether it was a bad one.
    drawn = f": one draw, and {ENOUGH_DRAWS} are needed to say that the choice of experts matters"
    end = drawn if arm.choice.is_drawn and not elsewhere else ""
    return [f"{told} leave it at {rate}{end}."]


def controls_of(what: str, arms: Sequence[ComparedArm]) -> list[ComparedArm]:
    """The arms that control for the choice of `experts`, or for that of `masks`."""
    return [arm for arm in arms if arm.choice and arm.choice.controls == what]


def _beside_others_masks(best: ComparedArm, arms: Sequence[ComparedArm]) -> list[str]:
    """Whether masks of other batches do as well as the batches' own."""
    own = [arm for arm in controls_of("masks", arms) if arm.measures.get("control_of") == best.name]
    known = [arm for arm in own if arm.measures["asr"]["value"] is not None]
    do = {True: "these figures do not show that a batch needs its own mask", False: "a batch's own mask does more"}
    return [
        f"With each batch training the mask of another ({arm.name}) it is {rate_text(arm.measures['asr'])}: "
        f"{do[does_as_well(arm, best)]}."
        for arm in known
    ]


def strongest(controls: Sequence[ComparedArm]) -> ComparedArm | None:
    """The control under which the fewest attacks succeed."""
    known = [arm for arm in controls if arm.measures["asr"]["value"] is not None]
    return min(known, key=lambda arm: worst_of(arm.measures["asr"]), default=None)


def does_as_well(control: ComparedArm, best: ComparedArm) -> bool:
    """Whether chance may set the two apart; what was not measured is no better."""
    high = best.measures["asr"]["with_unparsed"]["high"]
    return high is None or bool(control.measures["asr"]["low"] <= high)


def worst_wrapper(arm: ComparedArm) -> str | None:
    """The further attack of which most succeed."""
    known = [name for name, rate in arm.reattack.items() if rate["value"] is not None]
    return max(known, key=lambda name: worst_of(arm.reattack[name]), default=None)


def _elsewhere(base: ComparedArm, best: ComparedArm) -> list[str]:
    """The further attacks of which most succeed."""
    name = worst_wrapper(best)
    if name is None:
        return []
    before = base.reattack[name]["value"] if name in base.reattack else None
    known = "" if before is None else f" (base {before:.3f})"
    do = "succeed" if "answered" in best.measures else "are answered"
    return [
        f"Of the attacks by {name}, none of which stands in a batch, {worst_text(best.reattack[name])} {do}{known}."
    ]
