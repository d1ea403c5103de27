"""`compare`: every arm on the same batches and schedule, beside the untouched base."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from moe_safety.arms import ARMS, BASE, CHOICE, BudgetArm, SeededArm, budget_arms, rate_trials, seeded_arms
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.evaluate.budgets import CURVE, budget_curve, curve_page
from moe_safety.evaluate.choice import FAIL, answers_alone, choose, choose_least, choose_repair, on_validation
from moe_safety.evaluate.comparison import arm_object, page, table
from moe_safety.evaluate.costs import Costs
from moe_safety.evaluate.evaluate import check_examinable, evaluate_all
from moe_safety.evaluate.evaluated_models import OF_BUDGETS, Subject, seeded_subject
from moe_safety.evaluate.gate import misses, parse_gate
from moe_safety.evaluate.margins import against, margins_page
from moe_safety.evaluate.printing import headline, success
from moe_safety.evaluate.required_prompts import check_asked, has_prompts
from moe_safety.evaluate.robustness import robustness_page
from moe_safety.evaluate.seeds import figures_over_seeds, with_repeats
from moe_safety.evaluate.session import Session
from moe_safety.evaluate.short_table import short_table
from moe_safety.generation import Ability, check_able
from moe_safety.identify import read_selection
from moe_safety.models.io import skeleton_of
from moe_safety.pipeline import COMPARISON
from moe_safety.pipeline.perform import tell
from moe_safety.rundir import Outcome, RunDir, Work, is_finished, run_work, summary_of
from moe_safety.train.several import is_known, to_train_anew, train_arms
from moe_safety.train.train import METADATA
from moe_safety.train.verified import verified

COMPARISON_PAGE = "comparison.md"
"""Of the test split; those of other splits stand among their results."""


def compare(config: Config, *, force: bool = False, wide: bool = False, gate: str | None = None) -> dict[str, Any]:
    """Writes `comparison.json` and `comparison.md`, from arms that are trained and evaluated where they are not yet;
    prints a table of what decides or, `wide`, of all rates. Of the manifest `failed` says whether an arm missed the
    `gate`."""
    # The untouched base is what the others are measured against: it always misses.
    hardened = [name for name in config.compare.arms if ARMS.get(name).hardens]
    limits = parse_gate(gate) if gate is not None else []
    if limits and not hardened:
        raise InputError("names no arm beside the base, so there is nothing to hold to the gate", key="compare.arms")
    run, arms = RunDir(config.run_dir), seeded_arms(config)
    if not config.compare.arms:
        raise InputError("names no arm, so there is nothing to compare", key="compare.arms")
    _check_steering(config, run, arms, again=force)
    if config.train.save == "delta" and any(arm.arm.phases and arm.arm.has_delta for arm in arms):
        check_able(config.evaluate.engine, Ability.SWAPS_DELTA, "evaluate.engine")
    for arm in {arm.selection: arm for arm in arms}.values():
        arm.select(force=force)
    rates = _rates(config, run, force=force) if config.compare.learning_rates else {}
    arms = seeded_arms(config, rates)
    known = [seeded_subject(run, arm) for arm in arms if is_known(run, arm, again=force)]
    stands = check_examinable(config, run, known, force=force) and len(known) == len(arms)
    if (force or not stands) and not config.evaluate.reattack:
        check_asked(config, run, ["unsafe"])
    trained = [arm for arm in arms if arm.arm.phases]
    anew = to_train_anew(config, trained, elsewhere=not stands) if force else set()
    train_arms(config, trained, anew=anew, told=_say_trained)
    done = evaluate_all(config, run, [seeded_subject(run, arm) for arm in arms], force=force, on_done=_say_evaluated)
    budgets = _train_budgets(config, run, rates, force=force)
    if budgets:
        asked, subjects = answers_alone(config, reattack=[]), [seeded_subject(run, arm) for arm in budgets]
        done += evaluate_all(asked, run, subjects, force=force, within=OF_BUDGETS)
    if _chooses(config, run):
        # The headline's arm and budget are chosen there, so that what they are told by has no part in the choice.
        subjects = [seeded_subject(run, arm) for arm in [*arms, *_own(budgets)]]
        done += evaluate_all(on_validation(config), run, subjects, force=force)
    manifest = _write(config, run, arms, budgets)
    manifest |= {"skipped": all(each["skipped"] for each in done)}
    tell(config, manifest)
    found = run.read_json(comparison_of(config))
    print(table(found) if wide else short_table(found))
    if not wide:
        whole = comparison_of(config).replace(COMPARISON, COMPARISON_PAGE)
        print(f"All columns: `compare --wide`, or {run.uri}/{whole}")
    named = [arm for arm in found if arm["arm"] in hardened]
    missed = misses(limits, named) if limits else []
    if missed:
        print("\n".join(missed), file=sys.stderr)
    elif limits:
        print(f"gate: {len(named)} arms keep {gate}")
    return manifest | {"failed": bool(missed)}


def comparison_of(config: Config) -> str:
    """The comparison's file."""
    split = config.evaluate.split
    return COMPARISON if split == "test" else f"eval/{split}/{COMPARISON}"


def _chooses(config: Config, run: RunDir) -> bool:
    """Whether there are validation goals to choose by."""
    return config.evaluate.split == "test" and has_prompts(run, "validation", "unsafe")


def _rates(config: Config, run: RunDir, *, force: bool) -> dict[str, float]:
    """Each arm's learning rate, chosen on validation goals over all training seeds."""
    if not has_prompts(run, "validation", "unsafe"):
        raise InputError("are chosen on validation goals, and no attack is among them", key="compare.learning_rates")
    trials = rate_trials(config)
    every = [one for rates in trials.values() for seeds in rates.values() for one in seeds]
    anew = to_train_anew(config, every, elsewhere=True) if force else set()
    train_arms(config, every, anew=anew, told=_say_trained)
    asked = on_validation(config)
    evaluate_all(asked, run, [seeded_subject(run, one) for one in every], force=force)
    base = _on_validation(config, run, [BASE])
    chosen = {}
    for name, rates in trials.items():
        found = {rate: _trial(config, run, seeds) for rate, seeds in rates.items()}
        chosen[name], _ = choose_least(base, found, config.compare.margins)
        print(f"compare: {name}: learning rate {chosen[name]:g}, by validation goals", flush=True)
    return chosen


def _on_validation(config: Config, run: RunDir, names: Sequence[str]) -> dict[str, Any]:
    """What choices read of an arm there: of its seeds, which have these names, together."""
    folders = [f"{Session(on_validation(config), run).root}/{name}" for name in names]
    reports = [run.read_json(f"{folder}.json") for folder in folders]
    return figures_over_seeds(reports, [run.read_table(f"{folder}/responses.parquet") for folder in folders])


def _trial(config: Config, run: RunDir, seeds: Sequence[SeededArm]) -> dict[str, Any]:
    """The same of one rate or budget, and whether it kept its word with every seed."""
    verdicts = [verified(run, one)["verify"] for one in seeds]
    found = _on_validation(config, run, [one.name for one in seeds])
    return found | {"verify": FAIL if FAIL in verdicts else verdicts[0]}


def _own(budgets: Sequence[BudgetArm]) -> list[BudgetArm]:
    """Of the arms of the budget curve, those that train the run's own selection."""
    return [arm for arm in budgets if arm.kind == CHOICE]


def _check_steering(config: Config, run: RunDir, arms: list[SeededArm], *, again: bool) -> None:
    """Before anything is trained: not every family can be steered."""
    steered = [arm for arm in arms if not arm.arm.phases]
    if any(not is_finished(run, f"evaluate/{arm.name}", again=again) for arm in steered):
        from moe_safety.models.routers import rule_of

        check_able(config.evaluate.engine, Ability.AVOIDS_EXPERTS, "evaluate.engine")
        rule_of(skeleton_of(config.model))


def _train_budgets(config: Config, run: RunDir, rates: Mapping[str, float], *, force: bool) -> list[BudgetArm]:
    """The arms of the budget curve, trained, at the learning rates that were chosen; none where no budgets are asked
    for."""
    arms = budget_arms(config, rates)
    if not arms:
        return []
    check_asked(config, run, ["unsafe"])
    selected = len(read_selection(run).experts)
    if (most := max(config.compare.budgets)) > selected:
        told = f"a budget is {most}, and the run's own selection has {selected} experts"
        raise InputError(f"{told}; give identify.top_k as many", key="compare.budgets")
    for arm in arms:
        arm.select(force=force)
    anew = to_train_anew(config, arms, elsewhere=True) if force else set()
    train_arms(config, arms, anew=anew, told=_say_trained)
    return arms


def _write(config: Config, run: RunDir, arms: list[SeededArm], budgets: list[BudgetArm]) -> dict[str, Any]:
    session, split = Session(config, run), config.evaluate.split
    reports = {name: f"{session.root}/{name}.json" for name in (BASE, *(arm.name for arm in arms))}
    trained = [f"train/{arm.name}/{name}" for arm in arms if arm.arm.phases for name in (METADATA, "verify.json")]
    answers = [_answers(reports, arm) for arm in arms if len(_seeds(arm, arms)) > 1]
    chosen_by = _validation_files(config, run, [*reports, *(arm.name for arm in _own(budgets))])
    curve = {arm.name: f"{Session(config, run, OF_BUDGETS).root}/{arm.name}.json" for arm in budgets}
    answers += [_answers(curve, arm) for arm in budgets]
    settings = {
        "arms": config.compare.arms,
        "seeds": config.compare.seeds,
        "learning_rates": config.compare.learning_rates,
        "budgets": config.compare.budgets,
        "draws": config.compare.draws,
        "draws_of": config.compare.draws_of,
        "margins": results_only(config.compare.margins),
    }
    name = "compare" if split == "test" else f"compare/{split}"
    reads = (*reports.values(), *trained, *answers, *chosen_by, *curve.values(), *Costs(run).reads)
    stage = Work(name, settings=settings, reads=reads)
    # It only puts together what other stages guard, and takes a moment: arms may be added at any time.
    body = partial(_put_together, config, run, arms, reports, budgets, curve)
    return run_work(run, stage, config.model_dump(mode="json"), body, force=True)


def _validation_files(config: Config, run: RunDir, names: Sequence[str]) -> list[str]:
    """What is known of the same arms on validation goals."""
    root = Session(on_validation(config), run).root
    files = [f"{root}/{name}{end}" for name in names for end in (".json", "/responses.parquet")]
    return files if _chooses(config, run) else []


def _put_together(
    config: Config,
    run: RunDir,
    arms: list[SeededArm],
    reports: dict[str, str],
    budgets: list[BudgetArm],
    curve: dict[str, str],
) -> Outcome:
    objects, costs = {BASE: arm_object(BASE, run.read_json(reports[BASE]))}, Costs(run)
    for arm in arms:
        trained = (summary_of(run, f"train/{arm.name}"), verified(run, arm), costs.of(arm)) if arm.arm.phases else ()
        objects[arm.name] = arm_object(arm.kind, run.read_json(reports[arm.name]), *trained)
        if arm.control_of:
            objects[arm.name]["control_of"] = arm.control_of
        if of := arm.arm.experts_of(config):
            objects[arm.name]["experts_of"] = of
        if arm.arm.phases and config.compare.learning_rates:
            objects[arm.name]["learning_rate"] = arm.config.train.learning_rate
    for name in objects:
        if differences := run.read_json(reports[name]).get("differences"):
            objects[name]["margins"] = against(differences, config.compare.margins)
    found = [objects[BASE]]
    for arm in arms:
        if arm.name == arm.kind:
            seeds = _seeds(arm, arms)
            answers = pa.concat_tables(run.read_table(_answers(reports, one)) for one in seeds)
            found.append(with_repeats({one.config.seed: objects[one.name] for one in seeds}, answers))
    if _chooses(config, run):
        for one in found:
            names = [arm.name for arm in arms if arm.kind == one["arm"]]
            one["validation"] = _on_validation(config, run, names or [BASE])
    for key, choosing in (("chosen", choose), ("chosen_repair", choose_repair)):
        if choice := choosing(found, config.compare.margins):
            next(one for one in found if one["arm"] == choice[0])[key] = choice[1]
    name = comparison_of(config)
    beside = name.replace(COMPARISON, COMPARISON_PAGE)
    run.write_json(name, found)
    written, text = [name, beside], page(found, config.evaluate.split) + margins_page(found) + robustness_page(found)
    if budgets:
        answers = {arm.name: run.read_table(_answers(curve, arm)) for arm in budgets}
        losses = {arm.name: run.read_json(curve[arm.name])["benign_loss"] for arm in budgets}
        drawn = budget_curve(budgets, answers, losses)
        drawn["failed"] = [arm.name for arm in budgets if verified(run, arm)["verify"] == FAIL]
        if "validation" in found[0] and not {arm.name for arm in _own(budgets)} <= {*drawn["failed"]}:
            drawn["chosen"] = _chosen_budget(config, run, found[0]["validation"], budgets)
        written.append(name.replace(COMPARISON, CURVE))
        run.write_json(written[-1], drawn)
        text += curve_page(drawn, success(found[0]))
    run.write_bytes(beside, text.encode())
    summary = {one["arm"]: {"asr": one["asr"], "verify": one["verify"]} for one in found}
    return Outcome(outputs=tuple(written), summary=summary)


def _chosen_budget(
    config: Config, run: RunDir, base: Mapping[str, Any], budgets: Sequence[BudgetArm]
) -> dict[str, Any]:
    """The budget of the headline, over all training seeds."""
    seeds: dict[int, list[SeededArm]] = {}
    for arm in _own(budgets):
        seeds.setdefault(arm.budget, []).append(arm)
    trials = {budget: _trial(config, run, arms) for budget, arms in seeds.items()}
    budget, how = choose_least(base, trials, config.compare.margins)
    return {"budget": budget, **how}


def _seeds(arm: SeededArm, arms: list[SeededArm]) -> list[SeededArm]:
    """The arm of the run's own seed, and its repeats."""
    return [one for one in arms if one.kind == arm.kind]


def _answers(reports: dict[str, str], arm: SeededArm) -> str:
    return f"{reports[arm.name].removesuffix('.json')}/responses.parquet"


def _say_trained(arm: SeededArm, manifest: dict[str, Any]) -> None:
    summary = manifest["summary"]
    print(
        f"compare: trained {arm.name}: {summary['steps']} steps, last loss {summary['last_loss']:.4f}, "
        f"{summary['trainable_ratio']:.1%} of the parameters, "
        f"{manifest['finished'] - manifest['started']:.0f} s",
        flush=True,
    )


def _say_evaluated(subject: Subject, manifest: dict[str, Any]) -> None:
    if not manifest["skipped"]:
        print(f"compare: {subject.name}: {headline(manifest['summary'])}", flush=True)
