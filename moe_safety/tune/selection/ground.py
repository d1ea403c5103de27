"""What every trial of a selection sweep stands on: the methods' scores, of all goals and of two halves of them, and how
active each expert is on training and on held-out prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from moe_safety.identify.scored import Scored, in_order
from moe_safety.identify.select import select
from moe_safety.identify.sums import Reducer, Sums
from moe_safety.models.layout import MoELayout
from moe_safety.models.load import check_loadable
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir, is_finished, summary_of
from moe_safety.tune.selection.measures import Prompts, held_out_auroc

AT_MOST = 1000
"""Prompts of each label that the discriminant is fitted on, and that it is tried on."""
VIEWS = 3
"""All goals, those of the one half, those of the other."""

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
            lowest = "threshold" if settings.needs_routing else "min_score"
            raise InputError("no expert is selected", key=f"identify.{lowest}")
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
        scored = Scored(self._scores(settings.ranking, settings.ranked_by)[view]) if settings.ranking else None
        if scored and np.isnan(scored.scores).all():
            raise InputError(f"nothing in a half of the goals tells {settings.ranked_by}", key="identify.score")
        # Each half draws for itself, as it would if it stood alone.
        pairs, _ = select(settings, self.experts, (), scored, seed + view)
        return self.experts.find(pairs)

    def _scores(self, method: str, score: str) -> np.ndarray:
        if (method, score) not in self.scores:
            raise InputError(f"{score} was not collected", key="identify.score")
        return self.scores[method, score]


def read_ground(config: Config, run: RunDir, held_out: RunDir) -> Ground:
    """Reads what the stages left; the held-out prompts were captured in a run directory of their own."""
    routed = config.identify.model_copy(update={"method": "routing", "score": None, "top_k": 1})
    inputs = read_inputs(config.model_copy(update={"identify": routed}), run)
    experts, places, layout = inputs.experts, inputs.places, check_loadable(config.model)
    if len(places.batch_ids) < 2:
        raise InputError("a single batch has no halves to compare", file=run.path(BATCHES))
    scores = _routing_scores(run, inputs)
    if is_finished(run, "gradients"):
        scores |= _gradient_scores(run, places, layout, experts)
    if is_finished(run, "effects"):
        scores |= _effect_scores(run, places, experts)
    return Ground(experts, scores, _prompts(run, experts), _prompts(held_out, experts))


def half_of(places: Places) -> np.ndarray:
    """Which half each goal belongs to, 0 or 1: the halves take turns with the batches in which goals stand first. So a
    batch whose goals are all new is of one half, and no goal is of both."""
    first = np.full(places.n_goals, len(places.batch_ids))
    np.minimum.at(first, places.goal, places.batch)
    return first % 2


def _routing_scores(run: RunDir, inputs: Inputs) -> Scores:
    """Each half has its own part of every batch."""
    assert inputs.routing is not None
    places, experts, files = inputs.places, inputs.experts, inputs.routing.files
    parts = np.arange(2 * len(places.batch_ids))
    halved = replace(places, batch=2 * places.batch + half_of(places)[places.goal], batch_ids=parts)
    nothing_drawn = np.zeros((places.n_goals, 1), np.uint8)
    counts = _views(reduce_parts(run, files, Reducer(halved, experts, nothing_drawn)).batches)
    weights = _views(reduce_parts(run, files, Reducer(halved, experts, nothing_drawn, "weights")).batches)
    pooled = [pooled_columns(view) for view in counts]
    found = {
        "risk_diff": [columns["risk_diff"][0] for columns in pooled],
        "risk_diff_mean": [columns["risk_diff_mean"][0] for columns in pooled],
        "weight": [difference(view.pooled())[0] for view in weights],
    }
    if places.has(BENIGN) and places.has(CONTROL):
        found["risk_diff_control"] = [control_adjusted(view.pooled())[0] for view in counts]
    return {("routing", name): np.stack(rows) for name, rows in found.items()}


def _views(parts: Sums) -> list[Sums]:
    one, other = parts.values[0::2], parts.values[1::2]
    return [Sums(one + other), Sums(one), Sums(other)]


def _gradient_scores(run: RunDir, places: Places, layout: MoELayout, experts: Experts) -> Scores:
    """Each half folds its own batches, as the stage folds all of them. A batch's gradient cannot be parted: one that
    holds attacked goals of both halves is in neither."""
    parts = [run.read_table(name) for name in summary_of(run, "gradients")["files"]]
    views, unknown = _batches_of_halves(places), np.full(len(experts), np.nan)
    folded = [fold(_of_batches(parts, batches), layout).to_pandas() if len(batches) else None for batches in views]
    return {
        ("gradient", name): np.stack([unknown if table is None else in_order(table, name, experts) for table in folded])
        for name in ("gradient", "gradient_l2", "gradient_per_token")
    }


def _batches_of_halves(places: Places) -> list[np.ndarray]:
    """All batches, then those whose attacked goals are all of the one half, or of the other."""
    attacked = places.label < BENIGN
    half, batch = half_of(places)[places.goal[attacked]], places.batch[attacked]
    in_half = [np.bincount(batch[half == side], minlength=len(places.batch_ids)) > 0 for side in (0, 1)]
    return [places.batch_ids, places.batch_ids[in_half[0] & ~in_half[1]], places.batch_ids[in_half[1] & ~in_half[0]]]


def _of_batches(parts: list[pa.Table], batch_ids: np.ndarray) -> Iterable[pa.Table]:
    wanted = pa.array(batch_ids, pa.int32())
    return (part.filter(pc.is_in(part["batch_idx"], wanted)) for part in parts)


def _effect_scores(run: RunDir, places: Places, experts: Experts) -> Scores:
    """Prompts go with their goals."""
    half_of_prompt = np.zeros(len(places.prompt_ids), int)
    half_of_prompt[places.prompt] = half_of(places)[places.goal]
    found: Scores = {}
    for name, table in (("effect", measured_by_prompt(run)), ("first_order", estimates_by_prompt(run))):
        half = half_of_prompt[places.prompt_ids.get_indexer(table["prompt_id"].to_pandas())]
        views = [table, *(table.filter(pa.array(half == side)) for side in (0, 1))]
        found["causal", name] = np.stack([effect_of(view)[experts.flat] for view in views])
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
