"""What every trial of a selection sweep stands on: the methods' scores, of all batches and of two halves of them, and
how active each expert is on training and on held-out prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, IdentifyConfig
from moe_safety.effects.stage import estimates_by_prompt, measured_by_prompt
from moe_safety.effects.table import against_control
from moe_safety.errors import InputError
from moe_safety.gradients.table import fold
from moe_safety.identify.agreement import jaccard
from moe_safety.identify.experts import Experts
from moe_safety.identify.inputs import Inputs, read_inputs
from moe_safety.identify.places import BENIGN, CONTROL, Places
from moe_safety.identify.reduce import reduce_parts
from moe_safety.identify.risk import control_adjusted, difference, pooled_columns
from moe_safety.identify.rules import Rule
from moe_safety.identify.scored import in_order
from moe_safety.identify.select import select
from moe_safety.identify.sums import Reducer
from moe_safety.models.layout import MoELayout
from moe_safety.models.load import check_loadable
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir, is_finished, summary_of
from moe_safety.tune.selection.measures import Prompts, held_out_auroc

AT_MOST = 1000
"""Prompts of each label that the discriminant is fitted on, and that it is tried on."""
VIEWS = 3
"""All batches, those at even places, those at odd places."""

Scores = dict[tuple[str, str], np.ndarray]
"""[views, experts] for each method and score."""


@dataclass(frozen=True)
class Ground:
    experts: Experts
    scores: Scores
    training: Prompts
    held_out: Prompts

    def measure(self, settings: IdentifyConfig, seed: int) -> dict[str, float]:
        """What a trial reports."""
        whole, one, other = (self._choose(settings, view, seed) for view in range(VIEWS))
        if not len(whole):
            raise InputError("no expert is selected", key="identify.threshold")
        auroc = held_out_auroc(self.training, self.held_out, whole)
        # Two halves that select nobody bear nothing out.
        stability = jaccard(set(one.tolist()), set(other.tolist())) or 0.0
        return {
            "selection_score": (auroc + stability) / 2,
            "auroc": auroc,
            "stability": stability,
            "experts": float(len(whole)),
        }

    def _choose(self, settings: IdentifyConfig, view: int, seed: int) -> np.ndarray:
        by_chance = settings.method.startswith("random")
        key = ("routing" if by_chance else settings.method, settings.ranked_by)
        if key not in self.scores:
            raise InputError(f"{key[1]} was not collected", key="identify.score")
        scores = self.scores[key][view]
        if np.isnan(scores).all():
            raise InputError(f"nothing in a half of the batches tells {key[1]}", key="identify.score")
        if by_chance:
            # Each half draws for itself, as it would if it stood alone.
            nobody = np.zeros((0, len(self.experts)))
            pairs, _ = select(settings, self.experts, (), scores, nobody, seed + view)
            return self.experts.find(pairs)
        threshold = settings.threshold if settings.method == "routing" else settings.min_score
        return Rule(threshold, settings.top_k, settings.top_p).choose(scores[None])[0]


def read_ground(config: Config, run: RunDir, held_out: RunDir) -> Ground:
    """Reads what the stages left; the held-out prompts were captured in a run directory of their own."""
    routed = config.identify.model_copy(update={"method": "routing", "score": None, "top_k": 1})
    inputs = read_inputs(config.model_copy(update={"identify": routed}), run)
    experts, places, layout = inputs.experts, inputs.places, check_loadable(config.model)
    views = [slice(None), slice(0, None, 2), slice(1, None, 2)]
    if len(places.batch_ids) < 2:
        raise InputError("a single batch has no halves to compare", file=run.path(BATCHES))
    scores = _routing_scores(run, inputs, views)
    if is_finished(run, "gradients"):
        scores |= _gradient_scores(run, places, layout, experts, views)
    if is_finished(run, "effects"):
        scores |= _effect_scores(run, places, experts, views)
    return Ground(experts, scores, _prompts(run, experts), _prompts(held_out, experts))


def _routing_scores(run: RunDir, inputs: Inputs, views: list[slice]) -> Scores:
    assert inputs.routing is not None
    places, experts, files = inputs.places, inputs.experts, inputs.routing.files
    nothing_drawn = np.zeros((places.n_goals, 1), np.uint8)
    counts = reduce_parts(run, files, Reducer(places, experts, nothing_drawn)).batches
    weights = reduce_parts(run, files, Reducer(places, experts, nothing_drawn, "weights")).batches
    pooled = [pooled_columns(counts[view]) for view in views]
    found = {
        "risk_diff": [columns["risk_diff"][0] for columns in pooled],
        "risk_diff_mean": [columns["risk_diff_mean"][0] for columns in pooled],
        "weight": [difference(weights[view].pooled())[0] for view in views],
    }
    if places.has(BENIGN) and places.has(CONTROL):
        found["risk_diff_control"] = [control_adjusted(counts[view].pooled())[0] for view in views]
    return {("routing", name): np.stack(rows) for name, rows in found.items()}


def _gradient_scores(run: RunDir, places: Places, layout: MoELayout, experts: Experts, views: list[slice]) -> Scores:
    """Each half folds its own batches, as the stage folds all of them."""
    parts = [run.read_table(name) for name in summary_of(run, "gradients")["files"]]
    folded = [fold(_of_batches(parts, places.batch_ids[view]), layout).to_pandas() for view in views]
    names = ("gradient", "gradient_l2", "gradient_per_token")
    return {("gradient", name): np.stack([in_order(table, name, experts) for table in folded]) for name in names}


def _of_batches(parts: list[pa.Table], batch_ids: np.ndarray) -> Iterable[pa.Table]:
    wanted = pa.array(batch_ids, pa.int32())
    return (part.filter(pc.is_in(part["batch_idx"], wanted)) for part in parts)


def _effect_scores(run: RunDir, places: Places, experts: Experts, views: list[slice]) -> Scores:
    """Prompts go with the first batch that they stand in."""
    first = np.full(len(places.prompt_ids), len(places.batch_ids))
    np.minimum.at(first, places.prompt, places.batch)
    found: Scores = {}
    for name, table in (("effect", measured_by_prompt(run)), ("first_order", estimates_by_prompt(run))):
        batch = first[places.prompt_ids.get_indexer(table["prompt_id"].to_pandas())]
        halves = [table.filter(pa.array(np.isin(batch, np.arange(len(places.batch_ids))[view]))) for view in views]
        found["causal", name] = np.stack([effect_of(half)[experts.flat] for half in halves])
    return found


def effect_of(half: pa.Table) -> np.ndarray:
    """Not a number where there is no attack to learn it from."""
    effect = against_control(half)
    return effect if "unsafe" in half["label"].to_pylist() else np.full_like(effect, np.nan)


def _prompts(run: RunDir, experts: Experts) -> Prompts:
    """Attacks against plain goals and wrapped harmless requests. Names of prompts are hashes: the first are any."""
    batches = run.read_table(BATCHES, ["prompt_id", "label"]).to_pandas().drop_duplicates("prompt_id")
    wanted = batches[batches["label"] != "benign"].sort_values("prompt_id").groupby("label").head(AT_MOST)
    label = dict(zip(wanted["prompt_id"], wanted["label"], strict=True))
    rates, attack = [], []
    for name in summary_of(run, "capture")["files"]:
        part = run.read_table(name)
        mine = np.array([row in label for row in part["prompt_id"].to_pylist()]) & (part["tokens"].to_numpy() > 0)
        part = part.filter(pa.array(mine))
        if len(part):
            rates.append((matrix(part, "counts")[:, experts.flat] / part["tokens"].to_numpy()[:, None]).astype("f4"))
            attack += [label[row] == "unsafe" for row in part["prompt_id"].to_pylist()]
    found = Prompts(np.concatenate(rates) if rates else np.zeros((0, len(experts)), "f4"), np.array(attack, dtype=bool))
    if not found.is_mixed:
        raise InputError("attacks and other prompts are both needed, with counted tokens", file=run.path(BATCHES))
    return found
