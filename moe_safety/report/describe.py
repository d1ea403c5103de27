"""Words for what the page draws: titles, and the text that stands in for a figure where it cannot be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from moe_safety.evaluate import SHORT, success
from moe_safety.evaluate.budgets import ENOUGH_DRAWS, TOLD, matters, settling
from moe_safety.evaluate.margins import HEADS, HOLDS
from moe_safety.evaluate.measures import WITH_HARM
from moe_safety.report.context import Context
from moe_safety.report.context.arms import ComparedArm
from moe_safety.report.context.batches import BatchView
from moe_safety.report.context.experts import Identification, ScoreMap
from moe_safety.report.context.overlap import Overlap
from moe_safety.report.context.training import Curve, Trained
from moe_safety.report.figures.heatmap import Grid
from moe_safety.scores import SCORES

_RATES = {name: f"{words[0].upper()}{words[1:]}" for name, words in SHORT.items()}
BETTER = {name: WITH_HARM[name].good for name in _RATES}
SHIFTS = {
    "kl": "KL divergence from the base's routing (nats)",
    "replaced": "Share of the base's top-k choices that others took the place of",
}
WEAKENED = {
    "held_back": "With so many experts held back of those that refusing hangs on most",
    "after_finetuning": "After so many steps of fine-tuning on harmless rows",
}
ASKED = {"safe": "plain goals", "unsafe": "attacks"}
"""What refusal margins are about, by label."""
KNOWN = {"interval": "95 % interval", "q_value": "q", "batches": "Batches"}
"""What may be known of an expert beside its scores, by column."""


def rates(arms: Sequence[ComparedArm]) -> dict[str, str]:
    """The titles of the rates that were measured of all of these arms."""
    known = {name: words for name, words in _RATES.items() if all(name in arm.measures for arm in arms)}
    return known | {"asr": attacks(arms)}


def suite_titles(arms: Sequence[ComparedArm]) -> dict[str, str]:
    """The titles of the rates of suites."""
    return _RATES | {"asr": attacks(arms), "unparsed": "Unparsed", "unparsed_harm": "Unparsed, harm"}


def attacks(arms: Sequence[ComparedArm]) -> str:
    """What the share of attacks is called that count as successful."""
    words = success(arms[0].measures)
    return f"{words[0].upper()}{words[1:]}"


def margins(arms: Sequence[ComparedArm]) -> dict[str, str]:
    """What stands beside margins, and its titles."""
    names = dict.fromkeys(name for arm in arms for name in arm.margins)
    return {name: words[0].upper() + words[1:] for name in names for words in [HEADS.get(name, name)]}


def margin(arms: Sequence[ComparedArm], name: str) -> str:
    """The margin of one difference."""
    return next(f"{arm.margins[name]['margin']:g}" for arm in arms if name in arm.margins)


def held(one: Mapping[str, Any]) -> str:
    """Whether a margin holds."""
    return HOLDS[one["holds"]]


def bounds(one: Mapping[str, Any]) -> str:
    """The interval of a difference, where it has one."""
    return "" if one["high"] is None else f"[{one['low']:+.3f}, {one['high']:+.3f}]"


def places(arms: Sequence[ComparedArm], weakened: str) -> list[str]:
    """How far models were weakened, step by step."""
    curve = next(iter(arms[0].robustness[weakened].values()))
    return [str(point["at"]) for point in curve]


def firmness(arm: ComparedArm, weakened: str) -> str:
    """What a curve of refusal margins shows, in words."""
    told = [
        f"{ASKED[label]} from {curve[0]['value']:+.2f} to {curve[-1]['value']:+.2f}"
        for label, curve in arm.robustness[weakened].items()
    ]
    return f"{arm.name}: refusal margin. {WEAKENED[weakened]}: {', '.join(told)}."


def budget_measures(context: Context) -> dict[str, str]:
    """The measures that were taken at each budget, and their titles."""
    titles = rates(context.arms) | {"benign_loss": "Loss on harmless requests (nats per token)"}
    assert context.budgets
    points = [point for told in context.budgets["kinds"].values() for point in told["points"]]
    return {name: titles[name] for name in TOLD if all(point.get(name) is not None for point in points)}


def budget_curve(curve: Mapping[str, Any], measure: str, title: str) -> str:
    """What a picture of the budget curve shows, in words."""
    budgets = ", ".join(map(str, curve["budgets"]))
    areas = ", ".join(f"{kind} {told['area']['value']:.3f}" for kind, told in curve["kinds"].items())
    ends = f" Areas: {areas}." if measure == "asr" else ""
    return f"{title} with {budgets} experts repaired, for each kind of choice.{ends}"


def choice_matters(curve: Mapping[str, Any]) -> str:
    """Whether the choice of experts matters, as far as the draws can tell."""
    told = settling(curve)
    assert told is not None
    drawn, sure = told["draws"], matters(curve)
    if failed := curve.get("failed"):
        return f"The curve proves nothing: {', '.join(failed)} changed what may not change (verify)."
    if sure is None:
        return f"Of {drawn} load-matched draws nobody can say whether the choice matters: {ENOUGH_DRAWS} are needed."
    if sure:
        as_well = round(told["p"] * (1 + drawn)) - 1
        few = (
            f"only {as_well} of {drawn} load-matched draws do"
            if as_well
            else f"none of {drawn} load-matched draws does"
        )
        return f"The choice of experts matters: {few} as well."
    return f"Nothing shows that the choice of experts matters: among {drawn} load-matched draws some do as well."


def heading(column: str) -> str:
    """The heading of the score's column in the table of selected experts."""
    return KNOWN[column] if column in KNOWN else str(SCORES.get(column).heading)


def title(found: ScoreMap) -> str:
    """The title of the score, as it was measured."""
    return found.score.definition + (", less that after control prompts" if found.against_control else "")


def sign(found: ScoreMap) -> str:
    """The meaning of the score's sign."""
    against = " What holding it back does to control prompts is taken off." if found.against_control else ""
    return f"{found.score.sign[0].upper()}{found.score.sign[1:]}.{against}"


def score_map(found: ScoreMap) -> str:
    """What a map of scores shows, in words."""
    best = ", ".join(f"{name} {value:+.3g}" for name, value in found.best)
    chosen = f" {len(found.marked)} experts are selected." if found.marked else ""
    return f"{title(found)}: {_size(found.grid)}. Highest: {best or 'none is above 0'}.{chosen}"


def batches(view: BatchView) -> str:
    """What the map of batches by experts shows, in words."""
    return (
        f"Risk difference of {len(view.grid.rows)} batches for {len(view.grid.columns)} experts, with a frame where a "
        f"batch selects the expert: {len(view.marked)} times."
    )


def shift_columns(kinds: Sequence[str]) -> list[str]:
    """The columns of the table of routing shift."""
    return [f"{title}, {kind}" for title in ("KL (nats)", "Replaced") for kind in kinds]


def overlap(found: Overlap) -> str:
    """What a map of overlaps shows, in words."""
    kind = "batches" if found.kind == "batch" else "categories"
    return f"Jaccard of the selections of {found.groups} {kind}, each against each: {spread(found)}."


def spread(found: Overlap) -> str:
    """The spread over all pairs, in words."""
    if found.median != found.median:
        return "no two of them select any expert"
    return f"lowest {found.lowest:.2f}, median {found.median:.2f}, highest {found.highest:.2f}"


def agreement(found: Identification) -> str:
    """What the picture of agreement between methods shows, in words."""
    pairs = [
        f"{row['a']} and {row['b']} {row['spearman']:+.2f}"
        for row in found.agreed_overall
        if row["spearman"] is not None
    ]
    overall = ", ".join(pairs) or "none is known"
    return f"Rank correlation by layer for each pair of methods; over all layers: {overall}."


def loss(arm: Trained, curve: Curve) -> str:
    """What a curve of losses shows, in words."""
    return (
        f"{arm.name}, {curve.phase} phase: loss over {len(curve.loss)} steps, from {curve.loss[0]:.3g} "
        f"to {curve.loss[-1]:.3g}."
    )


def change(arm: Trained) -> str:
    """What a map of changed experts shows, in words."""
    grid = arm.change
    assert grid is not None
    moved = np.argwhere(np.nan_to_num(grid.values) > 0)
    return f"{arm.name}: relative change of {_size(grid)}. {len(moved)} experts changed, at most by {grid.reach:.3g}."


def shift(arm: ComparedArm, measure: str, lines: Mapping[str, Sequence[float]]) -> str:
    """What a picture of routing drift shows, in words."""
    means = ", ".join(f"{kind} {sum(line) / len(line):.3g}" for kind, line in lines.items())
    return f"{arm.name}: {SHIFTS[measure]} by layer. Means over layers: {means}."


def _size(grid: Grid) -> str:
    layers, width = grid.values.shape
    return f"{layers} layers of {'up to ' if not grid.exists.all() else ''}{width} experts"
