"""What `identify` reads, checked before anything is computed: the counts are this model's, and of these batches.

Methods that do not rank by routing work without `capture`; nothing is then said of routing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.files import prompts_digest
from moe_safety.config import Config, IdentifyConfig, results_only
from moe_safety.errors import InputError
from moe_safety.identify.batch_rows import BatchRows, read_batch_rows
from moe_safety.identify.experts import Experts
from moe_safety.identify.reduce import Coverage, check_coverage
from moe_safety.identify.select import Rule, Scored
from moe_safety.models.io import check_loadable, model_fingerprint
from moe_safety.pipeline import BATCHES
from moe_safety.routing.table import layout_of
from moe_safety.rundir import RunDir, check_settings, is_finished, manifest_name, summary_of
from moe_safety.scores import (
    BENIGN,
    LABELS,
    ROUTING,
    SAFE,
    UNSAFE,
    RoutingScore,
    Score,
    default_scores,
    routing_scores,
    score_in_force,
)


@dataclass(frozen=True)
class Routing:
    """The counts that `capture` left."""

    files: list[str]
    """Their parts, in order."""
    digest: str
    """One hash of all parts."""
    coverage: Coverage


@dataclass(frozen=True)
class Inputs:
    """The checked inputs of `identify`."""

    model: str
    experts: Experts
    batch_rows: BatchRows
    routing_scores: list[RoutingScore]
    """What routing tables hold; they are ranked and drawn by the last, whatever the method."""
    score: Score | None
    """What is ranked by; nothing where chance alone decides."""
    scored: Scored | None
    """Its values, but for a score of routing: those follow from the counts."""
    routing: Routing | None
    """Nothing where `capture` was not run."""

    @property
    def counts_hash(self) -> dict[str, str]:
        """The hash of the counts, by its name in manifests."""
        return {"routing": self.routing.digest} if self.routing else {}


def read_inputs(config: Config, run: RunDir, *, ranked: bool = True) -> Inputs:
    """Reads all but the counts themselves, and no scores where nothing is to be `ranked`."""
    settings, model = config.identify, model_fingerprint(config.model)
    score = score_in_force(config) if ranked and settings.ranking else None
    routed = isinstance(score, RoutingScore) or is_finished(run, ROUTING.stage)
    _check_configured(config, run, routed, score)
    experts = _captured_experts(run, model) if routed else Experts.of_layout(check_loadable(config.model))
    _check_size(settings, experts)
    batch_rows = read_batch_rows(run, config.batches.group_by)
    if isinstance(score, RoutingScore):
        _check_labels(score, batch_rows)
        scored = None
    else:
        scored = _scored(run, settings, score, experts, batch_rows, model) if score else None
    routing = _routing(run, batch_rows) if routed else None
    return Inputs(model, experts, batch_rows, routing_scores(config), score, scored, routing)


def _check_configured(config: Config, run: RunDir, routed: bool, score: Score | None) -> None:
    """Batches were made, and what is ranked by was found, in the way that the configuration says."""
    template = {"chat_template_kwargs": config.model.chat_template_kwargs}
    check_settings(run, "compose", {"batches": results_only(config.batches), "model": template})
    for reads in dict.fromkeys([*([ROUTING] if routed else []), *([score.reads] if score else [])]):
        check_settings(run, reads.stage, reads.settings(config))


def _captured_experts(run: RunDir, model: str) -> Experts:
    captured = summary_of(run, "capture")
    _check_origin(run, model)
    _check_parts(run, captured["files"])
    return _experts(run, captured["files"], captured["layout"])


def _routing(run: RunDir, batch_rows: BatchRows) -> Routing:
    files = summary_of(run, "capture")["files"]
    return Routing(files, captured_digest(run), check_coverage(run, files, batch_rows))


def captured_digest(run: RunDir) -> str:
    """One hash of all counts that `capture` left."""
    files, left = summary_of(run, "capture")["files"], run.read_json(manifest_name("capture"))["outputs"]
    return hashlib.sha256(json.dumps([left[name] for name in files]).encode()).hexdigest()


def _check_origin(run: RunDir, model: str) -> None:
    read = run.read_json(manifest_name("capture"))["inputs"]
    if read["model"] != model:
        raise InputError("the counts are of another model or tokenizer; run `capture` again", file=run.path("routing"))
    if prompts_digest(run) != read["prompts"]:
        raise InputError(
            f"the counts are not of the prompts in {BATCHES}; run `capture` again", file=run.path("routing")
        )


def _check_parts(run: RunDir, files: list[str]) -> None:
    """Each part must be what `capture` left."""
    left = run.read_json(manifest_name("capture"))["outputs"]
    for name in files:
        if not run.exists(name) or run.digest(name) != left[name]:
            raise InputError("is not what `capture` wrote; run `capture` again", file=run.path(name))


def _experts(run: RunDir, files: list[str], fingerprint: str) -> Experts:
    """All parts have one layout."""
    for name in files:
        with run.open_parquet(name) as part:
            layout = layout_of(part.schema_arrow)
        if layout.fingerprint() != fingerprint:
            raise InputError("holds counts of a model with another layout", file=run.path(name))
    return Experts.of_layout(layout)


def _check_size(settings: IdentifyConfig, experts: Experts) -> None:
    if settings.top_p is None and settings.top_k > len(experts):
        raise InputError(
            f"{settings.top_k} experts are asked for, and the model has {len(experts)}", key="identify.top_k"
        )


def _check_labels(score: RoutingScore, batch_rows: BatchRows) -> None:
    """What the score compares must stand in the batches."""
    if not batch_rows.has(SAFE):
        raise InputError("no safe prompt stands in the batches to compare with", key="batches.safe_ratio")
    for label in score.labels:
        if label not in (SAFE, UNSAFE) and not batch_rows.has(label):
            raise InputError(f"{score.name} needs {LABELS[label]} prompts in the batches", key="identify.score")


def _scored(
    run: RunDir, settings: IdentifyConfig, score: Score, experts: Experts, batch_rows: BatchRows, model: str
) -> Scored:
    """The values that a score of a table has, checked to be of this model and of these batches."""
    scores, reads = read_scores(run, score, experts), score.reads
    summary_of(run, reads.stage)
    read = run.read_json(manifest_name(reads.stage))["inputs"]
    if (read["model"], read[BATCHES]) != (model, run.digest(BATCHES)):
        raise InputError(
            f"is of another model or of other batches; run `{reads.stage}` again", file=run.path(reads.table)
        )
    if settings.mask_of == "global":
        return Scored(scores)
    by_batch = _by_batch(run, score, experts, batch_rows, settings.mask_of)
    return Scored(scores, Rule.of(settings).choose(by_batch))


def default_values(config: Config, run: RunDir, experts: Experts) -> dict[str, np.ndarray]:
    """The default score of each method whose stage has been run, routing left out."""
    others = [score_in_force(config, score.name) for score in default_scores() if not isinstance(score, RoutingScore)]
    return {score.method: read_scores(run, score, experts) for score in others if run.exists(score.reads.table)}


def read_scores(run: RunDir, score: Score, experts: Experts) -> np.ndarray:
    """The score of each expert, in the order of columns; NaN where it was not measured."""
    reads = score.reads
    if not run.exists(reads.table):
        raise InputError(f"`{score.method}` needs {reads.table}; run `{reads.stage}` first", file=run.uri)
    table = run.read_table(reads.table)
    if missing := [column for column in score.columns if column not in table.column_names]:
        raise InputError(f"has no {missing[0]}; run `{reads.stage}` again", file=run.path(reads.table))
    found = set(zip(table["layer"].to_pylist(), table["expert"].to_pylist(), strict=True))
    if found != set(experts.columns) or len(table) != len(experts):
        raise InputError("holds scores of a model with another layout", file=run.path(reads.table))
    return in_order(score, table, experts)


def in_order(score: Score, table: pa.Table, experts: Experts) -> np.ndarray:
    """The score's values by a table with a row per expert, in the order of columns."""
    frame = table.to_pandas()
    by_expert = pd.Series(score.of_table(frame), pd.MultiIndex.from_frame(frame[["layer", "expert"]]))
    return by_expert.reindex(pd.MultiIndex.from_arrays([experts.layer, experts.expert])).to_numpy(float)


def part_scores(score: Score, collected: Sequence[pa.Table], experts: Experts) -> np.ndarray:
    """The score by a part of what its stage collected; NaN throughout where that part tells nothing."""
    assert score.reads.fold
    table = score.reads.fold(collected)
    return np.full(len(experts), np.nan) if table is None else in_order(score, table, experts)


def _by_batch(run: RunDir, score: Score, experts: Experts, rows: BatchRows, mask_of: str) -> np.ndarray:
    """[batches, experts]: the scores by each batch's own rows, or by those of all batches of its category. Harmless
    prompts are of no batch's own: what a stage measured prompt by prompt is set against all of them."""
    stage, reads = score.reads.stage, score.reads
    if reads.collected is None or reads.fold is None:
        raise InputError(f"{score.name} is known of all batches together, and of none alone", key="identify.masks")
    tables = reads.collected(run)
    whole = [table for table in tables if "batch_idx" in table.column_names]
    if any(set(table["batch_idx"].to_pylist()) != set(rows.batch_ids.tolist()) for table in whole):
        raise InputError(f"the {stage} are of other batches; run `{stage}` again", file=run.path(stage))
    groups = rows.category_of_batches() if mask_of == "category" else np.arange(len(rows.batch_ids))
    found, by_prompt, harmless = {}, len(whole) < len(tables), rows.label >= BENIGN
    for group in np.unique(groups).tolist():
        wanted = {"batch_idx": rows.batch_ids[groups == group].tolist()}
        if by_prompt:
            here = (groups == group)[rows.batch]
            wanted["prompt_id"] = rows.prompt_ids.names(np.unique(rows.prompt[here | harmless]))
        found[group] = part_scores(score, [_part(table, wanted) for table in tables], experts)
        if np.isnan(found[group]).all():
            told = f"batch {rows.batch_ids[groups == group][0]} has no attack that `{stage}` measured; measure more"
            raise InputError(f"{told}, or take `category` or `global`", key="identify.masks")
    return np.stack([found[group] for group in groups.tolist()])


def _part(table: pa.Table, wanted: Mapping[str, list[Any]]) -> pa.Table:
    name = next(name for name in wanted if name in table.column_names)
    return table.filter(pc.is_in(table[name], value_set=pa.array(wanted[name], table.schema.field(name).type)))
