"""Selections by every method from one capture: what `identify` left in tables is ranked again, and no model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, IdentifyConfig
from moe_safety.config.base import results_only
from moe_safety.errors import InputError
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.files import BATCH_MASKS, BATCH_RISK, MASK, RISK, write_mask
from moe_safety.identify.inputs import Inputs, read_inputs
from moe_safety.identify.places import PROMPTS
from moe_safety.identify.scored import SCORED, Scored
from moe_safety.identify.select import Choice, select
from moe_safety.identify.selection import SELECTION, Selection, read_selection
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage

Choose = Callable[[RunDir, Inputs, Sequence[Pair]], list[Pair]]
"""Chooses a control, from what `identify` reads and the selection that it controls for."""


def select_by(config: Config, name: str, *, force: bool = False) -> str:
    """Selects by the configuration's method and seed. Writes `selections/NAME/` and returns the selection's name."""
    run, folder = RunDir(config.run_dir), f"selections/{name}"
    inputs = read_inputs(config, run)
    stage = Stage(
        f"identify/{name}",
        settings=_settings(config),
        reads=(PROMPTS, BATCHES, *_tables(config.identify)),
        others={"model": inputs.model, **inputs.counts_hash},
    )
    run_stage(run, stage, config.model_dump(mode="json"), partial(_select, config, run, inputs, folder), force=force)
    return f"{folder}/{SELECTION}"


def select_control(
    config: Config,
    name: str,
    made: Mapping[str, Any],
    choose: Choose,
    *,
    seed: int | None = None,
    reads: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Makes a control of the run's own selection, as `select_by` selects; each batch's selection is the global one.
    `made` is what it says of how it was made; where chance decides there is a `seed`."""
    run, folder = RunDir(config.run_dir), f"selections/{name}"
    inputs = read_inputs(config, run, ranked=False)
    stage = Stage(
        f"identify/{name}",
        settings={"identify": dict(made)} | ({} if seed is None else {"seed": seed}),
        reads=(PROMPTS, BATCHES, SELECTION, *reads),
        others={"model": inputs.model},
    )

    def control() -> Outcome:
        chosen = choose(run, inputs, read_selection(run).experts)
        everywhere = {int(batch): chosen for batch in inputs.places.batch_ids}
        return _write(config, run, inputs, folder, (chosen, everywhere), made)

    run_stage(run, stage, config.model_dump(mode="json"), control, force=force)
    return f"{folder}/{SELECTION}"


def selection_of(
    config: Config, run: RunDir, inputs: Inputs, experts: Sequence[Pair], per_batch: Mapping[int, list[Pair]]
) -> Selection:
    """The chosen experts with the rule that chose them."""
    return Selection(
        **rule(config.identify),
        model=inputs.model,
        experts=list(experts),
        per_batch=per_batch,
        inputs={name: run.digest(name) for name in (PROMPTS, BATCHES)} | inputs.counts_hash,
    )


def rule(settings: IdentifyConfig) -> dict[str, Any]:
    """What a selection says of how it was made."""
    return {
        "method": settings.method,
        "score": None if settings.by_chance else settings.ranked_by,
        "threshold": None if settings.by_chance else settings.lowest,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "matches": settings.matches if settings.method == "random_layer_matched" else None,
    }


def _settings(config: Config) -> dict[str, object]:
    """The seed counts where chance decides."""
    seed = {"seed": config.seed} if config.identify.by_chance else {}
    return {**seed, "identify": results_only(config.identify)}


def _tables(settings: IdentifyConfig) -> tuple[str, ...]:
    if settings.ranking in SCORED:
        return (SCORED[settings.ranking].table,)
    return (RISK, BATCH_RISK) if settings.needs_routing else ()


def _select(config: Config, run: RunDir, inputs: Inputs, folder: str) -> Outcome:
    return _write(config, run, inputs, folder, _chosen(config, run, inputs))


def _write(
    config: Config, run: RunDir, inputs: Inputs, folder: str, choice: Choice, made: Mapping[str, Any] | None = None
) -> Outcome:
    experts, (chosen, per_batch) = inputs.experts, choice
    selection = selection_of(config, run, inputs, chosen, per_batch)
    run.write_json(f"{folder}/{SELECTION}", selection.to_json() | dict(made or {}))
    write_mask(run, f"{folder}/{MASK}", experts.matrix(experts.members([chosen])[0], False))
    write_mask(run, f"{folder}/{BATCH_MASKS}", experts.matrix(experts.members(list(per_batch.values())), False))
    names = tuple(f"{folder}/{name}" for name in (SELECTION, MASK, BATCH_MASKS))
    return Outcome(outputs=names, summary={"experts": [list(pair) for pair in chosen]})


def _chosen(config: Config, run: RunDir, inputs: Inputs) -> Choice:
    settings, experts, scored = config.identify, inputs.experts, inputs.scored
    if settings.needs_routing:
        # A batch has no mean over batches: it ranks by its own difference.
        own = "risk_diff" if settings.routing_score == "risk_diff_mean" else settings.routing_score
        (scores,) = _read(run, RISK, settings.routing_score, experts)
        scored = Scored(scores, _read(run, BATCH_RISK, own, experts))
    return select(settings, experts, inputs.places.batch_ids, scored, config.seed)


def _read(run: RunDir, table: str, score: str, experts: Experts) -> np.ndarray:
    """The score of every group and expert; tables hold experts in the order of columns, group after group."""
    column = "risk_diff_weight" if score == "weight" else score
    with run.open_parquet(table) as file:
        if column not in file.schema_arrow.names:
            raise InputError(f"has no {column}; run `identify` with identify.score={score}", file=run.path(table))
        return file.read([column])[column].to_numpy().astype(float).reshape(-1, len(experts))
