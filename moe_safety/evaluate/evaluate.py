"""`evaluate`: what a model does on held-out prompts, beside what the untouched base does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from moe_safety.arms import own_arm
from moe_safety.config import Config, results_only
from moe_safety.evaluate.ability import benign_exact, benign_loss, benign_losses
from moe_safety.evaluate.differences import of_answers, of_losses, of_tasks
from moe_safety.evaluate.evaluated_models import Subject, base_subject, configured_subject
from moe_safety.evaluate.measures import compared, compared_by_group, corrected, measures, success_at
from moe_safety.evaluate.prompts import accounts_of, read_exam
from moe_safety.evaluate.robustness import robustness
from moe_safety.evaluate.session import Session
from moe_safety.evaluate.suites import is_own, suite_results
from moe_safety.judges import TOO_LONG
from moe_safety.models.io import check_loadable
from moe_safety.pipeline.perform import check_made_so, tell
from moe_safety.rundir import (
    Outcome,
    RunDir,
    Work,
    check_not_refused,
    check_settings,
    discard,
    is_changed,
    is_finished,
    is_up_to_date,
    run_work,
    stage_lock,
)


def evaluate(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `eval/ARM.json` and `eval/ARM/responses.parquet`, and the same for the base where that is not there."""
    run = RunDir(config.run_dir)
    subject = configured_subject(config, run)
    if config.evaluate.model_path is None:
        arm = own_arm(config)
        check_settings(run, f"train/{arm.name}", {"train": results_only(arm.config.train)})
    asked = [] if subject == base_subject(config) else [subject]
    manifests = evaluate_all(config, run, asked, force=force)
    for manifest in manifests:
        tell(config, manifest)
    return manifests[-1]


def evaluate_all(
    config: Config,
    run: RunDir,
    subjects: Sequence[Subject],
    *,
    force: bool = False,
    within: str | None = None,
    on_done: Callable[[Subject, dict[str, Any]], None] = lambda subject, manifest: None,
) -> list[dict[str, Any]]:
    """The base first, then the subjects, all examined by one pool of actors. Their results stand `within` a folder of
    their own, where other examinations ask more. Returns their manifests."""
    session = Session(config, run, within)
    stages = _stages(session, [base_subject(config), *subjects])
    # The first to be examined takes the others along, so none may be in another command's hands.
    with ExitStack() as locks:
        first, *others = stages.values()
        locks.enter_context(_base_lock(run, first, force))
        for stage in others:
            locks.enter_context(stage_lock(run, stage.name))
        return _evaluate_all(session, subjects, force=force, on_done=on_done)


@contextmanager
def _base_lock(run: RunDir, stage: Work, force: bool) -> Iterator[None]:
    """Held while the base's results are made, or read: several commands may read them at once."""
    with stage_lock(run, stage.name, shared=True):
        if not force and is_up_to_date(run, stage):
            yield
            return
    with stage_lock(run, stage.name):
        yield


def _evaluate_all(
    session: Session,
    subjects: Sequence[Subject],
    *,
    force: bool,
    on_done: Callable[[Subject, dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """The same under the stages' locks."""
    config, run, base = session.config, session.run, base_subject(session.config)
    everyone = [base, *subjects]
    stages = _stages(session, everyone)
    # What is read differs by the kind of subject, of which there are few; subjects may be hundreds.
    for stage in {(stage.reads, str(stage.settings)): stage for stage in stages.values()}.values():
        check_made_so(config, stage)
    if force:
        # The base goes last: whether an arm has changed is told by the base's results, too.
        for stage in reversed(stages.values()):
            discard(run, stage)
    # All of them are examined together, so none may be refused when others were begun.
    for stage in _comparable(session, stages):
        check_not_refused(run, stage)
    waiting = [subject for subject in subjects if not is_finished(run, stages[subject.name].name)]

    def body(subject: Subject) -> Outcome:
        # Whoever comes first takes along all that wait. What was read of the base's routing is needed every time.
        together = {one.name: one for one in (base, subject, *waiting)}
        session.examine(list(together.values()))
        waiting.clear()
        return _results_of(session, subject, base)

    manifests = []
    plain = config.model_dump(mode="json")
    for subject in everyone:
        manifests.append(run_work(run, stages[subject.name], plain, partial(body, subject), locked=True))
        on_done(subject, manifests[-1])
    return manifests


def check_examinable(config: Config, run: RunDir, subjects: Sequence[Subject], *, force: bool) -> bool:
    """Refuses, before further arms are trained for it, an examination that could not begin. Whether the base and these
    subjects were all examined as they would be now."""
    session = Session(config, run)
    stages = _stages(session, [base_subject(config), *subjects])
    known = _comparable(session, stages)
    if not force:
        for stage in known:
            check_not_refused(run, stage)
    stands = len(known) == len(stages) and all(
        is_finished(run, stage.name, again=force) and not is_changed(run, stage) for stage in known
    )
    if force or not stands:
        session.check_judges()
        read_exam(config, run)
    return stands


def _stages(session: Session, everyone: Sequence[Subject]) -> dict[str, Work]:
    """By name; the base's comes first, and the others read what it left."""
    base, *others = everyone
    before = _results(session, base)
    return {base.name: session.stage(base)} | {one.name: session.stage(one, reads=before) for one in others}


def _comparable(session: Session, stages: dict[str, Work]) -> list[Work]:
    """Those that what they read is there for: without the base's results, its own alone."""
    return [stage for stage in stages.values() if all(map(session.run.exists, stage.reads))]


def evaluate_beside(config: Config, run: RunDir, subject: Subject) -> dict[str, Any]:
    """One subject alone, where the base's results stand already: others may be examined at the same time. Returns what
    was found."""
    session, base = Session(config, run), base_subject(config)
    stage = session.stage(subject, reads=_results(session, base))

    def body() -> Outcome:
        session.examine([subject])
        return _results_of(session, subject, base)

    with stage_lock(run, session.stage(base).name, shared=True):
        run_work(run, stage, config.model_dump(mode="json"), body)
    return run.read_json(_results(session, subject)[0])


def _results(session: Session, subject: Subject) -> tuple[str, str]:
    folder = session.folder(subject)
    return f"{folder}.json", f"{folder}/responses.parquet"


def _results_of(session: Session, subject: Subject, base: Subject) -> Outcome:
    run, parts = session.run, session.parts(subject)
    report, table = _results(session, subject)
    responses = session.responses(subject)
    own = responses.filter(is_own(responses))
    suites, accounts = session.config.evaluate.suites, accounts_of(session.exam)
    found: dict[str, Any] = {
        "arm": subject.name,
        **subject.identity,
        "split": session.config.evaluate.split,
        **measures(own),
        "success_at": success_at(own),
        "corrected": corrected(own, session.judging.performances),
        "too_long_to_judge": _too_long(responses),
        "benign_loss": benign_loss(parts),
        "benign_exact": benign_exact(own),
        "routing_shift": None,
        "reattack": _reattack(responses),
        "suites": suite_results(suites, responses, session.judging.performances, accounts),
        "robustness": robustness(session.config, parts, session.exam),
        "tasks": session.solved(subject).metrics,
    }
    if subject != base:
        found |= _beside_base(session, subject, base, own)
    run.write_table(table, responses)
    run.write_json(report, found)
    return Outcome(outputs=(report, table), summary=dict(found["overall"]) | ({"suites": accounts} if accounts else {}))


def _too_long(responses: pa.Table) -> int:
    """How many questions no judge saw whole."""
    columns = [name for name in ("reason", "harm_reason") if name in responses.column_names]
    return sum(TOO_LONG in (reason or "") for name in columns for reason in responses[name].to_pylist())


def _beside_base(session: Session, subject: Subject, base: Subject, own: pa.Table) -> dict[str, Any]:
    from moe_safety.evaluate.answer_shift import answer_shift
    from moe_safety.evaluate.routing_drift import routing_shift

    run, layout = session.run, check_loadable(session.config.model)
    labels = dict(zip(own["prompt_id"].to_pylist(), own["label"].to_pylist(), strict=True))
    shift = routing_shift(session.parts(base), session.parts(subject), layout, labels)
    before = run.read_table(_results(session, base)[1])
    found = {"compared": compared(own, before), "compared_by": compared_by_group(own, before), "routing_shift": shift}
    found["answer_shift"] = answer_shift(session.parts(base), session.parts(subject), labels)
    goals = dict(zip(own["prompt_id"].to_pylist(), own["goal_id"].to_pylist(), strict=True))
    found["differences"] = {
        **of_answers(own, before),
        **of_losses(benign_losses(session.parts(subject)), benign_losses(session.parts(base)), goals),
        **of_tasks(session.solved(subject), session.solved(base)),
    }
    if (identified := session.identified(subject)) is not None:
        found["identified"] = identified
    return found


def _reattack(responses: pa.Table) -> dict[str, Any]:
    """`asr` in each wrapper that training never saw."""
    later = responses.filter(responses["reattack"])
    return {name: rates["asr"] for name, rates in measures(later)["by_attack"].items()} if len(later) else {}
