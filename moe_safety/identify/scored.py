"""The tables of scores that other methods leave: gradients and effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moe_safety.batches.files import BATCHES
from moe_safety.config import IdentifyConfig
from moe_safety.effects.table import EXPERT_EFFECTS
from moe_safety.errors import InputError
from moe_safety.gradients.table import EXPERT_GRADIENTS
from moe_safety.identify.experts import Experts
from moe_safety.rundir import RunDir, summary_of
from moe_safety.rundir.stage import manifest_name


@dataclass(frozen=True)
class ScoredMethod:
    """A method whose stage writes a table with a row per expert."""

    stage: str
    table: str


SCORED = {
    "gradient": ScoredMethod("gradients", EXPERT_GRADIENTS),
    "causal": ScoredMethod("effects", EXPERT_EFFECTS),
}


@dataclass(frozen=True)
class Scored:
    """What a method ranks experts by, in the order of columns."""

    scores: np.ndarray
    by_batch: np.ndarray | None = None
    """[batches, experts], where each batch has its own."""


def scores_of(
    run: RunDir, settings: IdentifyConfig, experts: Experts, batch_ids: np.ndarray, model: str
) -> Scored | None:
    """The scores by which the configured method ranks, or what it draws is matched to; nothing for the routing's own
    and for chance alone."""
    method = settings.ranking
    if method not in SCORED:
        return None
    scores = read_scores(run, method, settings.ranked_by, experts)
    _check_origin(run, SCORED[method], model)
    if method == "gradient" and settings.gradient_masks == "per_batch":
        return Scored(scores, read_batch_gradients(run, batch_ids, settings.ranked_by, experts.flat))
    return Scored(scores)


def _check_origin(run: RunDir, method: ScoredMethod, model: str) -> None:
    summary_of(run, method.stage)
    read = run.read_json(manifest_name(method.stage))["inputs"]
    if (read["model"], read[BATCHES]) != (model, run.digest(BATCHES)):
        again = f"run `{method.stage}` again"
        raise InputError(f"is of another model or of other batches; {again}", file=run.path(method.table))


def all_scores(run: RunDir, experts: Experts) -> dict[str, np.ndarray]:
    """The default score of every method whose stage has been run."""
    default = {"gradient": "gradient", "causal": "effect"}
    return {
        method: read_scores(run, method, default[method], experts)
        for method, scored in SCORED.items()
        if run.exists(scored.table)
    }


def read_scores(run: RunDir, method: str, score: str, experts: Experts) -> np.ndarray:
    """The score of each expert, in the order of columns; NaN where it was not measured."""
    scored = SCORED[method]
    if not run.exists(scored.table):
        raise InputError(f"`{method}` needs {scored.table}; run `{scored.stage}` first", file=run.uri)
    table = run.read_table(scored.table, ["layer", "expert", score]).to_pandas()
    if set(zip(table["layer"], table["expert"], strict=True)) != set(experts.columns) or len(table) != len(experts):
        raise InputError("holds scores of a model with another layout", file=run.path(scored.table))
    return in_order(table, score, experts)


def in_order(table: pd.DataFrame, score: str, experts: Experts) -> np.ndarray:
    """A score of a table with a row per expert, in the order of columns."""
    by_expert = table.set_index(["layer", "expert"])[score].astype(float)
    return by_expert.reindex(pd.MultiIndex.from_arrays([experts.layer, experts.expert])).to_numpy()


def read_batch_gradients(run: RunDir, batch_ids: np.ndarray, score: str, places: np.ndarray) -> np.ndarray:
    """[batches, experts]: each batch's own gradients; `places` says where experts stand in the flattened tables."""
    column = {"gradient": "scores", "gradient_l2": "scores_l2", "gradient_per_token": "scores"}[score]
    rows = [row for name in summary_of(run, "gradients")["files"] for row in run.read_table(name).to_pylist()]
    by_batch = {row["batch_idx"]: row for row in rows}
    if set(by_batch) != set(batch_ids.tolist()):
        raise InputError("the gradients are of other batches; run `gradients` again", file=run.path("gradients"))
    scores = np.array([by_batch[batch][column] for batch in batch_ids.tolist()])[:, places]
    if score == "gradient_per_token":
        tokens = np.array([by_batch[batch]["expert_tokens"] for batch in batch_ids.tolist()])[:, places]
        scores = scores / np.maximum(tokens, 1)
    return scores
