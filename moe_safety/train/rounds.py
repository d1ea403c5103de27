"""Rounds: identify, repair experts, teach routers; each round goes on from the model that the last one left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moe_safety.arms import Arm, Phase
from moe_safety.config import Config, ModelConfig
from moe_safety.errors import InputError
from moe_safety.identify import Pair, Selection, read_selection
from moe_safety.identify.identify import rule
from moe_safety.models import MoELayout
from moe_safety.models.io import forget_model, model_fingerprint
from moe_safety.pipeline import BATCH_MASKS, BATCHES, MASK, PROMPTS, SELECTION, run_one
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES, score_tables
from moe_safety.train.launch import run_phase
from moe_safety.train.printing import print_rounding
from moe_safety.train.task import Task


@dataclass(frozen=True)
class Round:
    """The outcome of one round."""

    number: int
    folder: str
    selection: Selection | None
    """None where the arm has no experts of its own."""
    outcomes: Mapping[str, dict[str, Any]]
    """By phase."""
    left: Task
    """The last phase, whose folder holds what the round left."""
    model: ModelConfig
    """The same, to be loaded: the base with a delta, where there is one."""
    whole: ModelConfig | None
    """Its checkpoint, where it left one."""


@dataclass(frozen=True)
class Plan:
    """The settings that all rounds share."""

    arm: Arm
    config: Config
    run: RunDir
    layout: MoELayout
    folder: str
    """`train/ARM`."""
    selection: str
    """Of the run directory: the first round's selection."""
    weights: Mapping[int, float]
    batch_ids: list[int]
    begins_as: str | None = None
    """The name of an arm that may have made the first phase."""

    @property
    def identifies_anew(self) -> bool:
        """From the second round on. Scores of the model itself are always taken from the model at hand; chance reads
        none, and a control stays what it was drawn as."""
        identify = self.config.identify
        anew = self.config.train.reidentify or not identify.needs_routing
        return anew and not self.arm.is_control


def run_rounds(plan: Plan) -> Iterator[Round]:
    """Each round when it is done; what is done already is not done again."""
    model, done, task = plan.config.model, list[Round](), None
    first = first_selection(plan)
    for number in range(1, plan.config.train.num_rounds + 1):
        folder = f"{plan.folder}/round_{number}"
        selection = _selection(plan, folder, model, done, first)
        outcomes: dict[str, dict[str, Any]] = {}
        for kind in plan.arm.phases:
            task = _task(plan, kind, f"{folder}/{kind}", model, selection or first)
            outcomes[kind] = run_phase(task)
            if kind == "router":
                print_rounding(outcomes[kind]["rounding"])
            model = _left_by(plan, task)
        assert task is not None
        done.append(Round(number, folder, selection, outcomes, task, model, _checkpoint(plan, task)))
        yield done[-1]


def _left_by(plan: Plan, task: Task) -> ModelConfig:
    if plan.run.exists(task.delta):
        return plan.config.model.with_delta(plan.run.uri_of(task.delta))
    left = _checkpoint(plan, task)
    assert left is not None
    return left


def _checkpoint(plan: Plan, task: Task) -> ModelConfig | None:
    if not plan.run.files(task.model_folder):
        return None
    left = {"name": plan.run.uri_of(task.model_folder), "revision": None}
    return plan.config.model.model_copy(update=left)


def _selection(
    plan: Plan, folder: str, model: ModelConfig, done: list[Round], first: Selection | None
) -> Selection | None:
    """The round's selection, left in its folder with the scores behind it."""
    if plan.arm.choice is None:
        return None
    if done and plan.identifies_anew:
        return _identify_anew(plan, folder, model)
    source = done[-1].folder if done else None
    found = done[-1].selection if done else first
    assert found is not None
    # Masks stand beside their selection; scores belong to the model.
    masks, scores = (f"{source}/",) * 2 if source else (plan.selection.removesuffix(SELECTION), "")
    names = {f"{masks}{name}": name for name in (MASK, BATCH_MASKS)}
    names |= {f"{scores}{name}": name for name in score_tables()}
    for stored, name in names.items():
        if plan.run.exists(stored):
            plan.run.write_bytes(f"{folder}/{name}", plan.run.read_bytes(stored))
    plan.run.write_json(f"{folder}/{SELECTION}", found.to_json())
    return found


def _identify_anew(plan: Plan, folder: str, model: ModelConfig) -> Selection:
    """The round's folder is a run directory of its own: the same batches, another model."""
    for name in (PROMPTS, BATCHES):
        plan.run.write_bytes(f"{folder}/{name}", plan.run.read_bytes(name))
    config = plan.config.model_copy(update={"run_dir": plan.run.uri_of(folder), "model": model})
    forget_model()  # Replicas are to fill the card that this process may have trained on.
    for stage in (SCORES.get(config.identify.ranked_by).reads.stage, "identify"):
        run_one(stage, config)
    return read_selection(plan.run, f"{folder}/{SELECTION}")


def first_selection(plan: Plan) -> Selection | None:
    """What the first round trains, or is as large as, checked to be of this model and of these batches; none for an arm
    that reads none."""
    if not plan.arm.reads_selection:
        return None
    selection = read_selection(plan.run, plan.selection)
    file = plan.run.path(plan.selection)
    if selection.model != model_fingerprint(plan.config.model):
        raise InputError("was made for another model; run `identify` again", file=file)
    if sorted(selection.per_batch) != sorted(plan.batch_ids):
        raise InputError(
            f"has masks for {len(selection.per_batch)} batches, and there are {len(plan.batch_ids)}; "
            "run `identify` again",
            file=file,
        )
    _check_current(plan, selection, file)
    known = set(plan.layout.experts())
    for layer, expert in selection.union():
        if (layer, expert) not in known:
            raise InputError(f"names L{layer:02d}_E{expert:02d}, which this model does not have", file=file)
    if not selection.union():
        raise InputError("selects no expert, so there is nothing to train", file=file)
    return selection


def _check_current(plan: Plan, selection: Selection, file: str) -> None:
    """It must be what `identify` would select now: masks of other batches would fit these by their number alone."""
    for name in (PROMPTS, BATCHES):
        if selection.inputs.get(name, here := plan.run.digest(name)) != here:
            raise InputError(f"was made from another {name}; run `identify` again", file=file)
    for name, wanted in (plan.arm.choice.rule if plan.arm.choice else rule)(plan.config.identify).items():
        if (was := getattr(selection, name)) != wanted:
            raise InputError(f"was made with {name} = {was}, now {wanted}; run `identify` again", file=file)


def _task(plan: Plan, kind: Phase, folder: str, model: ModelConfig, selection: Selection | None) -> Task:
    masks: dict[int, list[Pair]] = dict(selection.per_batch) if selection else {}
    begun = plan.begins_as if kind == "experts" else None
    return Task(
        arm=plan.arm.name,
        config=plan.config.model_copy(update={"model": model}),
        layout=plan.layout,
        kind=kind,
        folder=folder,
        inputs=f"{plan.run.digest(BATCHES)} {model_fingerprint(model)}",
        masks=masks,
        weights=plan.weights,
        made_in=f"train/{begun}{folder.removeprefix(plan.folder)}" if begun else None,
        begins_at_base=model.with_delta(None) == plan.config.model,
    )
