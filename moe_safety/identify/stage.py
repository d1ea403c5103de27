"""`identify`: from routing counts to risk differences, a selection of experts and its masks; and selections by other
rules from the tables that it left, for which no model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from moe_safety.config import BY_CHANCE, Config, IdentifyConfig, results_only
from moe_safety.errors import InputError
from moe_safety.identify.analysis import BATCH_RISK, CATEGORY_RISK, Analysis, analyse, write_risk, writing_batches
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.inputs import Inputs, default_values, read_inputs
from moe_safety.identify.overlap import AGREEMENT, OVERLAP, SERVING, agreement_table, overlap_table, serving_table
from moe_safety.identify.reduce import Reducer
from moe_safety.identify.select import Choice, Rule, Scored, permuted, select
from moe_safety.identify.selection import Selection, read_selection, write_selection
from moe_safety.identify.summary import summarise
from moe_safety.pipeline import BATCHES, PROMPTS, RISK, SELECTION
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from moe_safety.scores import SCORES, RoutingScore, Score, score_tables

Choose = Callable[[RunDir, Inputs, Sequence[Pair]], list[Pair]]
"""Chooses a control, from what `identify` reads and the selection that it controls for."""
_GROUPS = {"batch": BATCH_RISK, "category": CATEGORY_RISK}
"""The tables of those that may have masks of their own."""


def identify(config: Config, *, force: bool = False, pictures: bool = True) -> dict[str, Any]:
    """Writes `selection.json`, the masks, the pictures and, where routing was captured, the risk tables. Pictures take
    most of its time, and can be left out where nobody will look at them."""
    run = RunDir(config.run_dir)
    inputs = read_inputs(config, run)
    work = Work(
        "identify",
        settings={"seed": config.seed, "identify": results_only(config.identify), **_own_settings(config)},
        reads=(PROMPTS, BATCHES, *(table for table in score_tables() if table != RISK and run.exists(table))),
        others={"model": inputs.model, **inputs.counts_hash, **_identities(inputs)},
        behind=tuple(inputs.routing.files[:1]) if inputs.routing else (),
    )
    return perform(config, work, partial(_identify, config, run, inputs, pictures), force=force)


def _identify(config: Config, run: RunDir, inputs: Inputs, pictures: bool) -> Outcome:
    analysis = _analyse(config, run, inputs)
    outputs = _write_results(config, run, inputs, analysis)
    outputs += _compare_methods(config, run, analysis, pictures)
    if pictures:
        from moe_safety.identify.pictures import draw_pictures

        outputs += draw_pictures(run, analysis, config.identify)
    uncounted = inputs.routing.coverage.uncounted if inputs.routing else 0
    measured = run.read_table(inputs.score.reads.table).to_pandas() if inputs.score and inputs.scored else None
    return Outcome(tuple(outputs), summary=summarise(analysis, config.identify, uncounted, measured))


def _analyse(config: Config, run: RunDir, inputs: Inputs) -> Analysis:
    if inputs.routing is None:
        return analyse(config.identify, config.seed, inputs)
    routing, rounds = inputs.routing, config.identify.bootstrap_rounds
    reducer = Reducer(run, routing.files, routing.coverage, inputs.batch_rows, inputs.experts, rounds, config.seed)
    with writing_batches(run, inputs) as write:
        return analyse(config.identify, config.seed, inputs, reducer.both(inputs.routing_scores[-1].sums), write)


def _write_results(config: Config, run: RunDir, inputs: Inputs, analysis: Analysis) -> list[str]:
    """Writes everything but the pictures, and returns the names. Without routing there are no risk tables."""
    experts, per_batch, per_category = analysis.experts, analysis.per_batch, analysis.per_category
    tables = write_risk(run, experts, analysis.batch_rows, analysis.risk) if analysis.risk else []
    run.write_table(OVERLAP, overlap_table(experts, per_batch, per_category))
    run.write_table(SERVING, serving_table(experts, analysis.selected, per_batch, per_category))
    selection = _selection_of(run, inputs, (analysis.selected, per_batch), rule(config.identify))
    return [*tables, OVERLAP, SERVING, *write_selection(run, experts, selection)]


def _compare_methods(config: Config, run: RunDir, analysis: Analysis, pictures: bool) -> list[str]:
    """How far methods agree, as far as their stages have been run."""
    scores = {analysis.risk.score.method: analysis.risk.scores()} if analysis.risk else {}
    scores |= default_values(config, run, analysis.experts)
    run.write_table(AGREEMENT, agreement_table(scores, analysis.experts, config.identify.top_k))
    if not pictures:
        return [AGREEMENT]
    from moe_safety.identify.pictures import draw_agreement

    return [AGREEMENT, *draw_agreement(run, scores, analysis.experts)]


def select_by(config: Config, name: str, *, force: bool = False) -> str:
    """Selects by the configuration's method and seed. Writes `selections/NAME/` and returns the selection's name."""
    return _select_as(config, name, rule(config.identify), _settings(config), lambda choice: choice, force)


def select_permuted(config: Config, name: str, made: Mapping[str, Any], *, force: bool = False) -> str:
    """The same, each batch with the mask of another one."""
    settings = _settings(config) | {"seed": config.seed, "method": made["method"]}
    return _select_as(config, name, made, settings, lambda choice: (choice[0], permuted(choice[1], config.seed)), force)


def _select_as(
    config: Config,
    name: str,
    made: Mapping[str, Any],
    settings: dict[str, Any],
    change: Callable[[Choice], Choice],
    force: bool,
) -> str:
    run, folder = RunDir(config.run_dir), f"selections/{name}"
    inputs = read_inputs(config, run)
    work = Work(
        f"identify/{name}",
        settings=settings,
        reads=(PROMPTS, BATCHES, *_tables(inputs)),
        others={"model": inputs.model, **inputs.counts_hash, **_identities(inputs)},
    )

    def body() -> Outcome:
        return _write(run, inputs, folder, change(_chosen(config, run, inputs)), made)

    run_work(run, work, config.model_dump(mode="json"), body, force=force)
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
    work = Work(
        f"identify/{name}",
        settings={"identify": dict(made)} | ({} if seed is None else {"seed": seed}),
        reads=(PROMPTS, BATCHES, SELECTION, *reads),
        others={"model": inputs.model},
    )

    def control() -> Outcome:
        chosen = choose(run, inputs, read_selection(run).experts)
        everywhere = {int(batch): chosen for batch in inputs.batch_rows.batch_ids}
        return _write(run, inputs, folder, (chosen, everywhere), made)

    run_work(run, work, config.model_dump(mode="json"), control, force=force)
    return f"{folder}/{SELECTION}"


def _selection_of(run: RunDir, inputs: Inputs, choice: Choice, made: Mapping[str, Any]) -> Selection:
    """The chosen experts with the rule that chose them."""
    experts, per_batch = choice
    return Selection(
        **made,
        model=inputs.model,
        experts=list(experts),
        per_batch=per_batch,
        inputs={name: run.digest(name) for name in (PROMPTS, BATCHES)} | inputs.counts_hash,
    )


def rule(settings: IdentifyConfig) -> dict[str, Any]:
    """What a selection says of how it was made."""
    draw = BY_CHANCE.get(settings.method)
    return {
        "method": settings.method,
        "score": None if settings.by_chance else settings.ranked_by,
        "threshold": None if settings.by_chance else settings.lowest,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "matches": settings.matches if draw and draw.in_each_layer else None,
        "masks": None if settings.by_chance else settings.masks,
    }


def _settings(config: Config) -> dict[str, object]:
    """The seed counts where chance decides."""
    seed = {"seed": config.seed} if config.identify.by_chance else {}
    return {**seed, "identify": results_only(config.identify), **_own_settings(config)}


def _own_settings(config: Config) -> dict[str, object]:
    """Those of the score itself, where it takes some."""
    settings = SCORES.settings(config.scores, config.identify.ranked_by)
    return {"score": results_only(settings)} if settings else {}


def _identities(inputs: Inputs) -> dict[str, str]:
    """Of scores of other packages: a result depends on their versions."""
    scores = [*inputs.routing_scores, *([inputs.score] if inputs.score else [])]
    return {key: value for score in scores for key, value in SCORES.identity(score.name).items()}


def _tables(inputs: Inputs) -> tuple[str, ...]:
    if isinstance(inputs.score, RoutingScore):
        return (RISK, *_GROUPS.values())
    return (inputs.score.reads.table,) if inputs.score else ()


def _write(run: RunDir, inputs: Inputs, folder: str, choice: Choice, made: Mapping[str, Any]) -> Outcome:
    names = write_selection(run, inputs.experts, _selection_of(run, inputs, choice, made), f"{folder}/")
    return Outcome(outputs=tuple(names), summary={"experts": [list(pair) for pair in choice[0]]})


def _chosen(config: Config, run: RunDir, inputs: Inputs) -> Choice:
    experts, score, scored = inputs.experts, inputs.score, inputs.scored
    if isinstance(score, RoutingScore):
        (scores,) = _read(run, RISK, score, score.column, experts)
        scored = Scored(scores)
        if (of := config.identify.mask_of) != "global":
            own = _read(run, _GROUPS[of], score, score.own_column, experts)
            if of == "category":
                scored = Scored.of_groups(config.identify, scores, own, inputs.batch_rows.category_of_batches())
            else:
                scored = Scored(scores, Rule.of(config.identify).choose(own))
    return select(config.identify, experts, inputs.batch_rows.batch_ids, scored, config.seed)


def _read(run: RunDir, table: str, score: Score, column: str, experts: Experts) -> np.ndarray:
    """The score of every group and expert; tables hold experts in the order of columns, group after group."""
    with run.open_parquet(table) as file:
        if column not in file.schema_arrow.names:
            raise InputError(f"has no {column}; run `identify` with identify.score={score.name}", file=run.path(table))
        return file.read([column])[column].to_numpy().astype(float).reshape(-1, len(experts))
