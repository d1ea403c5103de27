"""comparison.json and comparison.md: one object, and one row, for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe_safety.evaluate.costs import NOTHING
from moe_safety.evaluate.measures import WITH_HARM
from moe_safety.evaluate.printing import SHORT, span, success, told_account

SPREAD = (*(name for name in WITH_HARM if "unparsed" not in name), "benign_loss", "benign_exact")
"""Whose mean and deviation between seeds are told, as far as they were measured."""
FIGURES = (
    *WITH_HARM,
    "benign_loss",
    "benign_exact",
    "trainable_ratio",
    "changed_ratio",
    "seconds_per_step",
    "peak_memory_bytes",
)
"""What is told of every seed, and what a gate can set a limit on."""


def arm_object(
    name: str,
    report: Mapping[str, Any],
    trained: Mapping[str, Any] | None = None,
    verified: Mapping[str, Any] | None = None,
    costs: Mapping[str, Any] = NOTHING,
) -> dict[str, Any]:
    """An arm as comparison.json has it. One that trained nothing has changed nothing, and took nothing."""
    kept = (
        "success_at",
        "corrected",
        "benign_loss",
        "benign_exact",
        "routing_shift",
        "answer_shift",
        "robustness",
        "reattack",
        "suites",
        "tasks",
        "compared",
        "identified",
    )
    return {
        "arm": name,
        **report["overall"],
        **{key: report[key] for key in kept if key in report},
        "trainable_ratio": trained["trainable_ratio"] if trained else 0.0,
        "changed_ratio": verified["changed_ratio"] if verified else 0.0,
        "seconds_per_step": trained["seconds_per_step"] if trained else None,
        "peak_memory_bytes": trained["peak_memory_bytes"] if trained else None,
        **costs,
        "verify": verified["verify"] if verified else "n/a",
    }


def table(arms: Sequence[Mapping[str, Any]]) -> str:
    """The arms as a Markdown table that reads well as plain text too. Under an arm that was trained with several seeds
    stand all of them pooled, and the worst."""
    again = list(dict.fromkeys(name for arm in arms for name in arm.get("reattack", {})))
    shown = {name: words for name, words in _HEADS.items() if name in arms[0]} | {"asr": success(arms[0])}
    head = [
        "arm", *shown.values(), *(f"re-attack {name}" for name in again),
        "benign loss", "exact", "trained", "changed", "verify",
    ]  # fmt: skip
    return aligned([head, *(_row(row, list(shown), again) for arm in arms for row in _rows(arm))])


_HEADS = SHORT | {"over_refusal_control": "wrapped"}


def _rows(arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The arm with the run's own seed, and what its repeats add."""
    if "repeats" not in arm:
        return [arm]
    repeats, seeds = arm["repeats"], f"{len(arm['repeats']['seeds'])} seeds"
    return [
        arm,
        repeats["pooled"] | {"arm": f"{arm['arm']}, {seeds} pooled"},
        repeats["worst"] | {"arm": f"{arm['arm']}, worst of {seeds}"},
    ]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the head first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def page(arms: Sequence[Mapping[str, Any]], split: str) -> str:
    """comparison.md."""
    text = (
        "# Comparison\n\n"
        f"{_prompts_of(split)} Rates stand with their 95 % interval, whose unit is the goal (Wilson's, on n over the "
        f"design effect); {_what_success_is(arms[0])}over-refusal is the share of harmless requests refused, `wrapped` "
        "the same in the attack's own wrapper; `+n?` are answers that the judge could not read, each of which might "
        "count.\n\n" + table(arms) + "\n"
    )
    if any(arm.get("suites") for arm in arms):
        text += "\n## Suites\n\n" + _SUITES + suites_table(arms) + "\n" + _not_asked(arms)
    if any(arm.get("success_at") for arm in arms):
        text += (
            f"\n## {success(arms[0]).capitalize()}, within so many tries\n\n{_within(arms[0])}{_tries_table(arms)}\n"
        )
    if any(arm.get("corrected") for arm in arms):
        text += "\n## Corrected by the judges' errors\n\n" + _CORRECTED + _corrected_table(arms) + "\n"
    text += _how_chosen(arms)
    text += "\n## What training took\n\n" + _TOOK + aligned([_COSTS, *map(_cost_row, arms)]) + "\n"
    text += "\n## What else each arm did\n\n" + aligned([_SHIFT, *map(_shift_row, arms)]) + "\n"
    text += f"\nPrompts: {', '.join(_count(arms[0][name], label) for name, label in _KINDS.items())}.\n"
    if repeated := [arm for arm in arms if "repeats" in arm]:
        text += "\n## Spread between seeds\n\n" + _spread_table(repeated) + "\n"
    return text


def _how_chosen(arms: Sequence[Mapping[str, Any]]) -> str:
    for arm in arms:
        if "chosen" in arm:
            return f"\n{told_choice(arm['arm'], arm['chosen'])}\n"
    return ""


def told_choice(name: str, chosen: Mapping[str, Any]) -> str:
    """How the headline's arm was chosen, in a sentence."""
    what = "answers to validation attacks" if chosen.get("seeds", 1) > 1 else "validation attacks"
    seeds = f" over {chosen['seeds']} training seeds" if chosen.get("seeds", 1) > 1 else ""
    goals = f"{name} was chosen on {chosen['n']} {what} about {chosen['n_goals']} goals{seeds}"
    if wrappers := chosen.get("wrappers"):
        goals += f", and attacks by {', '.join(wrappers)} on the same goals"
    keep = chosen["within_margins"]
    among = ", among arms that keep compare.margins there" if keep else "; no arm keeps compare.margins"
    if keep and not chosen["shown"]:
        among = ", among arms whose figures keep compare.margins there, though so few goals do not show it"
    if not (tied := chosen["tied"]):
        return f"{goals}{among}."
    do = "tie" if len(tied) > 1 else "ties"
    return f"{goals}{among}; {', '.join(tied)} {do} with it there, and it changes the least."


_SUITES = (
    "Each suite by itself: its main rate, and what stands beside it. The arm that an attack was made against is named; "
    "for the others it was made against another model.\n\n"
)


def suites_table(arms: Sequence[Mapping[str, Any]]) -> str:
    """A row for each suite and arm."""
    head = ["suite", "arm", "what", "rate", "beside it", "prompts", "goals", "not asked"]
    names = list(dict.fromkeys(name for arm in arms for name in arm.get("suites", {})))
    rows = [_suite_row(name, arm) for name in names for arm in arms if name in arm.get("suites", {})]
    return aligned([head, *rows])


def _not_asked(arms: Sequence[Mapping[str, Any]]) -> str:
    suites = {name: suite for arm in arms for name, suite in arm.get("suites", {}).items()}
    return "".join(f"\nNot asked of {name}: {told}.\n" for name, one in suites.items() if (told := told_account(one)))


def _suite_row(name: str, arm: Mapping[str, Any]) -> list[str]:
    suite = arm["suites"][name]
    rates, heads = suite["rates"], SHORT | {"asr": success(arm)}
    main, beside = rates[suite["main"]], [one for one in rates if one != suite["main"] and "unparsed" not in one]
    more = [f"{heads[one]} {_rate(rates[one])}" for one in beside]
    if twin := arm["suites"].get(suite.get("twin")):
        more.append(f"{suite['twin']} {_rate(twin['rates'][twin['main']])}")
    more += [f"at depth {depth} {_rate(found[suite['main']])}" for depth, found in suite.get("by_depth", {}).items()]
    against = f", made against {suite['against']}" if suite.get("against") else ""
    what = f"{heads[suite['main']]}{against}"
    counts = [str(main["n"]), str(main["n_goals"]), str(suite["left_out"] + sum(suite.get("dropped", {}).values()))]
    return [name, arm["arm"], what, _rate(main), "; ".join(more), *counts]


def _within(arm: Mapping[str, Any]) -> str:
    do = "succeed" if "answered" in arm else "are answered"
    return (
        f"The share of attacks that {do} in at least one of k samples, estimated from all of an attack's samples.\n\n"
    )


def _tries_table(arms: Sequence[Mapping[str, Any]]) -> str:
    tries = list(dict.fromkeys(k for arm in arms for k in arm.get("success_at", {})))
    found = [(arm["arm"], arm.get("success_at", {})) for arm in arms]
    rows = [[name, *(_rate(rates[k]) if k in rates else "" for k in tries)] for name, rates in found]
    return aligned([["arm", *(f"k = {k}" for k in tries)], *rows])


_CORRECTED = (
    "What the true shares are, going by how often each judge erred on human labels (Rogan and Gladen); the interval "
    "carries that too (melded). In brackets what the judge says, unparsed answers at their worse end.\n\n"
)


def _corrected_table(arms: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for arm in arms for name in arm.get("corrected", {})))
    heads = _HEADS | {"asr": success(arms[0])}
    rows = [[arm["arm"], *(_corrected(arm.get("corrected", {}).get(name)) for name in names)] for arm in arms]
    return aligned([["arm", *(heads[name] for name in names)], *rows])


def _corrected(rate: Mapping[str, Any] | None) -> str:
    return "" if rate is None else f"{span(rate)} ({rate['judged']:.3f})"


def _what_success_is(arm: Mapping[str, Any]) -> str:
    if "answered" in arm:
        return (
            "attack success is the share of attacks whose answers do the harm that the plain goal asks for, `attacks "
            "answered` of those that were answered at all, plain harm the same of goals asked plainly; "
        )
    return "`attacks answered` says nothing of what the answers are worth, since no judge of harm is configured; "


def _prompts_of(split: str) -> str:
    if split == "train":
        return "Prompts of the train split, on which arms were trained."
    return f"Held-out prompts of the {split} split."


def _count(rate: Mapping[str, Any], label: str) -> str:
    return f"{rate['n']} {label}" + (f" (of {rate['n_goals']} goals)" if rate["n"] else "")


_KINDS = {
    "asr": "attacks",
    "plain_refusal": "plain goals",
    "over_refusal": "harmless requests",
    "over_refusal_control": "harmless requests in the wrapper",
}


def _row(arm: Mapping[str, Any], shown: Sequence[str], again: Sequence[str]) -> list[str]:
    return [
        arm["arm"],
        *(_rate(arm[measure]) for measure in shown),
        *(_rate(arm["reattack"][name]) if name in arm.get("reattack", {}) else "" for name in again),
        _number(arm["benign_loss"], ".3f"),
        _number(number_of(arm["benign_exact"]), ".3f"),
        _number(arm["trainable_ratio"], ".1%"),
        _number(arm["changed_ratio"], ".1%"),
        arm["verify"],
    ]


_TOOK = (
    "All arms train on the same batches in the same order. Tokens read: as often as a model reads them in training. "
    "Dose: the same, each weighed by the share of the base's routing weight that goes to what its batch trains.\n\n"
)
_COSTS = [
    "arm", "steps", "trained parameters", "tokens read", "dose", "seconds a step", "seconds", "peak memory"
]  # fmt: skip


def _cost_row(arm: Mapping[str, Any]) -> list[str]:
    memory = arm["peak_memory_bytes"]
    return [
        arm["arm"] + (f" (experts of {arm['experts_of']})" if "experts_of" in arm else ""),
        *(_number(arm.get(name), ",.0f") for name in ("steps", "trained_parameters", "tokens_read", "dose")),
        _number(arm["seconds_per_step"], ".3f"),
        _number(arm.get("training_seconds"), ".1f"),
        "" if memory is None else f"{memory / 1e9:.2f} GB",
    ]


_SHIFT = ["arm", "KL unsafe", "top-k kept unsafe", "KL benign", "answer KL", "unparsed"]
"""The first three are routing shift: how far routers moved from the base's on the same tokens; the fourth how far the
words did that may follow, in good answers to harmless requests."""


def _shift_row(arm: Mapping[str, Any]) -> list[str]:
    shift = arm.get("routing_shift") or {"mean_kl": {}, "mean_overlap": {}}
    return [
        arm["arm"],
        _number(shift["mean_kl"].get("unsafe"), ".4f"),
        _number(shift["mean_overlap"].get("unsafe"), ".3f"),
        _number(shift["mean_kl"].get("benign"), ".4f"),
        _number((arm.get("answer_shift") or {"kl": {}})["kl"].get("benign"), ".4f"),
        _number(number_of(arm["unparsed"]), ".3f"),
    ]


def _spread_table(arms: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in SPREAD if name in arms[0]["repeats"]]
    lines = [f"| arm | seeds | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    for arm in arms:
        spread = arm["repeats"]
        cells = [f"{_number(spread[name]['mean'], '.3f')} ± {_number(spread[name]['std'], '.3f')}" for name in names]
        lines.append(f"| {arm['arm']} | {len(spread['seeds'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rate(rate: Mapping[str, Any]) -> str:
    if rate["value"] is None:
        return "none"
    unread = f" +{rate['unparsed']}?" if rate.get("unparsed") else ""
    return f"{rate['value']:.3f} [{rate['low']:.2f}, {rate['high']:.2f}]{unread}"


def number_of(given: Any) -> float | None:
    """A figure may be a rate, which comes with its n."""
    return given["value"] if isinstance(given, Mapping) else given


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
