"""`effects`: what holding back each expert does to the refusal margin of unsafe and of control prompts."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.batches.files import check_encoding, encoding_of
from moe_safety.config import Config, results_only
from moe_safety.effects.conditional import is_wanted, measure_held, with_conditional
from moe_safety.effects.table import by_prompt, merge, per_expert
from moe_safety.effects.trials import TRIALS_SCHEMA, choose_trials, items_of
from moe_safety.jobs import Job, Parts, Plan, beside, pack, run_job
from moe_safety.models import MoELayout
from moe_safety.models.io import check_loadable, model_fingerprint
from moe_safety.pipeline import BATCHES, EXPERT_EFFECTS, PROMPTS
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work

EFFECTS = "effects/effects.parquet"
FORESEEN, FORESEEN_PLAN = "effects/_first_order", "plans/effects_first_order.parquet"


def effects(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `effects/`, a row per prompt, and `expert_effects.parquet`."""
    run = RunDir(config.run_dir)
    work = Work(
        "effects",
        settings=settings_of(config),
        reads=(BATCHES, PROMPTS),
        others={"model": model_fingerprint(config.model)},
        folder="effects/_measured",
    )
    body, check = partial(_effects, config, run, work), beside(partial(check_loadable, config.model), config.effects)
    return perform(config, work, body, check=check, force=force)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides the effects, beside the batches and the model."""
    return {
        "effects": results_only(config.effects),
        "model": config.model.identity,
        **({"conditional": True} if is_wanted(config) else {}),
    }


def measured_by_prompt(run: RunDir) -> pa.Table:
    """What the stage measured, a row per prompt."""
    return run.read_table(EFFECTS)


def estimates_by_prompt(run: RunDir) -> pa.Table:
    """The first-order estimates, a row per prompt."""
    return pa.concat_tables(Parts(run, FORESEEN, Plan(run, FORESEEN_PLAN)).tables())


def _effects(config: Config, run: RunDir, work: Work) -> Outcome:
    from moe_safety.effects.measurer import build_measurer, trials_of

    layout = check_loadable(config.model)
    identity = f"{work.settings} {run.digest(BATCHES)} {work.others}"
    foreseen = _foresee(config, run, identity)
    candidates = _candidates(foreseen, layout, config)
    trials = _trials(run)
    plan = Plan(run, "plans/effects.parquet")
    if not plan.stands(identity):
        items = list(items_of(trials, candidates, config.effects.max_tokens_per_forward))
        plan.write(items, items[0].schema, identity)
    parts = Parts(run, "effects/_measured", plan)
    longest = max(trials_of(trials), key=lambda trial: trial.length)
    build = partial(build_measurer, config.model, config.effects, longest, [])
    report = run_job(Job(plan, parts, build, config.effects))
    measured = merge(pa.concat_tables(parts.tables()), layout)
    run.write_table(EFFECTS, measured)
    table = per_expert(measured, foreseen, layout)
    held = measure_held(config, run, identity, trials, candidates, measured) if is_wanted(config) else []
    if held:
        table = with_conditional(table, [measured, *map(run.read_table, held)], layout)
    run.write_table(EXPERT_EFFECTS, table)
    labels = measured["label"].to_pylist()
    summary = {
        "prompts": {label: labels.count(label) for label in ("unsafe", "control")},
        "experts": len(candidates),
        "against": "control" if "control" in labels else "none",
        "held": held,
        "layout": layout.fingerprint(),
        "notes": report.notes,
        "tokens_per_second": report.tokens_per_second,
    }
    return Outcome(outputs=(EFFECTS, EXPERT_EFFECTS, *held), summary=summary)


def _foresee(config: Config, run: RunDir, identity: str) -> pa.Table:
    """The first-order estimate of every expert on every prompt."""
    from moe_safety.effects.measurer import build_foreseer, trials_of

    plan = Plan(run, FORESEEN_PLAN)
    if not plan.stands(identity):
        prompts = run.read_table(PROMPTS, ["prompt_id", "goal_id"])
        goals = dict(zip(prompts["prompt_id"].to_pylist(), prompts["goal_id"].to_pylist(), strict=True))
        check_encoding(run, config.model)
        with run.open_parquet(BATCHES) as batches:
            trials = choose_trials(batches, goals, encoding_of(batches)["refusal"], config.effects)
        sizes = [2 * trial.length for trial in trials_of(trials)]
        groups = sorted(sorted(group) for group in pack(sizes, config.effects.max_tokens_per_forward // 8))
        plan.write((trials.take(pa.array(group)) for group in groups), TRIALS_SCHEMA, identity)
    parts = Parts(run, FORESEEN, plan)
    run_job(Job(plan, parts, partial(build_foreseer, config.model, config.effects), config.effects))
    return pa.concat_tables(parts.tables())


def _trials(run: RunDir) -> pa.Table:
    plan = Plan(run, FORESEEN_PLAN)
    return pa.concat_tables([plan.rows(item) for item in range(len(plan))])


def _candidates(foreseen: pa.Table, layout: MoELayout, config: Config) -> list[int]:
    """The experts foreseen to matter most, in either direction, as places in the flattened table."""
    places = [layout.position(layer) * layout.max_experts + expert for layer, expert in layout.experts()]
    if config.effects.candidates == "all":
        return places
    labels, values = np.array(foreseen["label"].to_pylist()), by_prompt(foreseen)
    sides = [values[labels == label].mean(axis=0) for label in ("unsafe", "control") if label in labels]
    strength = np.abs(sides[0] - (sides[1] if len(sides) > 1 else 0.0))
    best = sorted(places, key=lambda place: (-strength[place], place))[: config.effects.candidates]
    return sorted(best)
