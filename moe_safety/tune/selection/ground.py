"""What every trial of a selection sweep stands on: the methods' scores, of all goals and of two halves of them, and how
active each expert is on training and on held-out prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import Config, IdentifyConfig
from moe_safety.errors import InputError
from moe_safety.identify import Experts, Scored, jaccard, select
from moe_safety.identify.batch_rows import BatchRows
from moe_safety.identify.inputs import Inputs, part_scores, read_inputs
from moe_safety.identify.reduce import Column, Reducer, Reduction
from moe_safety.pipeline import BATCHES
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir, is_finished, summary_of
from moe_safety.scores import BENIGN, SCORES, RoutingScore, Score, Sums, score_in_force
from moe_safety.tune.selection.measures import Prompts, held_out_auroc

AT_MOST = 1000
"""Prompts of each label that the discriminant is fitted on, and that it is tried on."""
VIEWS = 3
"""All goals, those of the one half, those of the other."""

Scores = dict[str, np.ndarray]
"""[views, experts] for each score, by name."""


@dataclass(frozen=True)
class Ground:
    """The ground on which selections are tried: scores and prompts, without a model."""

    experts: Experts
    scores: Scores
    training: Prompts
    held_out: Prompts

    def measure(self, settings: IdentifyConfig, seed: int) -> dict[str, float]:
        """The measures that a trial reports."""
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
        scored = Scored(self._scores(settings.ranked_by)[view]) if settings.ranking else None
        if scored and np.isnan(scored.scores).all():
            raise InputError(f"nothing in a half of the goals tells {settings.ranked_by}", key="identify.score")
        # Each half draws for itself, as it would if it stood alone.
        pairs, _ = select(settings, self.experts, (), scored, seed + view)
        return self.experts.find(pairs)

    def _scores(self, score: str) -> np.ndarray:
        if score not in self.scores:
            raise InputError(f"{score} was not collected", key="identify.score")
        return self.scores[score]


def read_ground(config: Config, run: RunDir, held_out: RunDir) -> Ground:
    """Reads what the stages left; the held-out prompts were captured in a run directory of their own."""
    routed = config.identify.model_copy(update={"method": "routing", "score": None, "top_k": 1})
    inputs = read_inputs(config.model_copy(update={"identify": routed}), run)
    experts, batch_rows = inputs.experts, inputs.batch_rows
    if len(batch_rows.batch_ids) < 2:
        raise InputError("a single batch has no halves to compare", file=run.path(BATCHES))
    known = [score_in_force(config, name) for name in SCORES.names()]
    collected = [score for score in known if not isinstance(score, RoutingScore) and _is_collected(run, score)]
    scores = routing_views(run, inputs, [score for score in known if isinstance(score, RoutingScore)])
    scores |= {score.name: table_views(run, score, batch_rows, experts) for score in collected}
    return Ground(experts, scores, _prompts(run, experts), _prompts(held_out, experts))


def half_of(batch_rows: BatchRows) -> np.ndarray:
    """Which half each goal belongs to, 0 or 1: the halves take turns with the batches in which goals stand first. So a
    batch whose goals are all new is of one half, and no goal is of both."""
    first = np.full(batch_rows.n_goals, len(batch_rows.batch_ids))
    np.minimum.at(first, batch_rows.goal, batch_rows.batch)
    return first % 2


def routing_views(run: RunDir, inputs: Inputs, scores: Sequence[RoutingScore]) -> Scores:
    """Each half has its own part of every batch."""
    assert inputs.routing is not None
    batch_rows, routing = inputs.batch_rows, inputs.routing
    parts = np.arange(2 * len(batch_rows.batch_ids))
    halved = replace(batch_rows, batch=2 * batch_rows.batch + half_of(batch_rows)[batch_rows.goal], batch_ids=parts)
    reducer = Reducer(run, routing.files, routing.coverage, halved, inputs.experts)
    columns: tuple[Column, ...] = ("counts", "weights")
    views = {column: _views(halved, reducer.sums(column)) for column in columns}
    return {
        score.name: np.concatenate([score.aggregated(view) for view in views[score.sums]])
        for score in scores
        if all(map(batch_rows.has, score.labels))
    }


def _views(halved: BatchRows, stretches: Iterable[Reduction]) -> list[Sums]:
    found = list(stretches)
    values = np.concatenate([sums.batches.values for sums in found])
    # A batch whose goals are all of the one half has no row of the other.
    parts = np.zeros((len(halved.batch_ids), *values.shape[1:]), values.dtype)
    parts[np.unique(halved.batch)] = values
    one, other = parts[0::2], parts[1::2]
    return [Sums(one + other), Sums(one), Sums(other)]


def _is_collected(run: RunDir, score: Score) -> bool:
    reads = score.reads
    return is_finished(run, reads.stage) and {*score.columns} <= {*run.read_table(reads.table).column_names}


def table_views(run: RunDir, score: Score, batch_rows: BatchRows, experts: Experts) -> np.ndarray:
    """Each half has its own part of what the score's stage collected."""
    assert score.reads.collected
    tables = score.reads.collected(run)
    views = [tables, *([_of_half(table, batch_rows, side) for table in tables] for side in (0, 1))]
    return np.stack([part_scores(score, view, experts) for view in views])


def _of_half(table: pa.Table, batch_rows: BatchRows, side: int) -> pa.Table:
    """Prompts go with their goals. What was collected of a batch cannot be parted: one that holds attacked goals of
    both halves is in neither."""
    half = half_of(batch_rows)
    if "batch_idx" in table.column_names:
        mine = pa.array(_batches_of_halves(batch_rows)[side], pa.int32())
        return table.filter(pc.is_in(table["batch_idx"], mine))
    half_of_prompt = np.zeros(len(batch_rows.prompt_ids), int)
    half_of_prompt[batch_rows.prompt] = half[batch_rows.goal]
    asked = batch_rows.prompt_ids.find(table["prompt_id"])
    return table.filter(pa.array(half_of_prompt[asked] == side))


def _batches_of_halves(batch_rows: BatchRows) -> list[np.ndarray]:
    """The batches whose attacked goals are all of the one half, and those of the other."""
    attacked = batch_rows.label < BENIGN
    half, batch = half_of(batch_rows)[batch_rows.goal[attacked]], batch_rows.batch[attacked]
    one, other = (np.bincount(batch[half == side], minlength=len(batch_rows.batch_ids)) > 0 for side in (0, 1))
    return [batch_rows.batch_ids[one & ~other], batch_rows.batch_ids[other & ~one]]


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
