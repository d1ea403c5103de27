"""`train`: one arm, under `train/ARM/`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from moe_safety.arms import LOSSES, Arm, SeededArm, own_arm
from moe_safety.batches.files import check_encoding
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.models.io import check_loadable, forget_model, model_fingerprint, model_folder, skeleton_of
from moe_safety.pipeline import BATCH_MASKS, BATCHES, MASK, PROMPTS
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work, check_settings, in_threads
from moe_safety.train.metadata import metadata, union_of
from moe_safety.train.printing import print_start, size_lines
from moe_safety.train.rounds import Plan, Round, first_selection, run_rounds
from moe_safety.train.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout

METADATA = "training_metadata.json"
DELTA = "delta.safetensors"


def train(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Trains the arm that the configuration describes, on the experts that `identify` or the arm itself selects."""
    arm = own_arm(config)
    if arm.arm.choice and not arm.place:
        check_settings(RunDir(config.run_dir), "identify", {"identify": results_only(config.identify)})
    arm.select(force=force)
    manifest = train_arm(arm, force=force)
    # Where this process trained, it holds the card that replicas are to fill.
    forget_model()
    return manifest


def train_arm(arm: SeededArm, *, force: bool = False) -> dict[str, Any]:
    """Trains one arm with one seed, on the experts of its selection."""
    config, run = arm.config, RunDir(arm.config.run_dir)
    body, check = partial(_train, arm, run), partial(check_loadable, config.model)
    return perform(config, training_of(arm), body, check=check, force=force)


def training_of(seeded: SeededArm) -> Work:
    """The work of training an arm: what decides its outcome."""
    config, arm = seeded.config, seeded.arm
    settings: dict[str, Any] = {"seed": config.seed, "train": results_only(config.train)}
    settings |= {"model": config.model.identity, **_between_rounds(config), **arm.decides(config)}
    if arm.reads_selection:
        settings["identify"] = results_only(config.identify)
    return Work(
        f"train/{seeded.name}",
        settings=settings,
        reads=(PROMPTS, BATCHES, *([seeded.selection] if arm.reads_selection else [])),
        others={"model": model_fingerprint(config.model), **arm.identity(config)},
        folder=f"train/{seeded.name}",
    )


def _between_rounds(config: Config) -> dict[str, Any]:
    """Settings of other stages that training leans on: what routers are compared on, and how a round identifies."""
    found: dict[str, Any] = {"counted": config.capture.tokens} if config.train.router.enabled else {}
    if config.train.num_rounds > 1:
        found |= {name: results_only(getattr(config, name)) for name in ("capture", "gradients", "effects")}
    return found


def _train(seeded: SeededArm, run: RunDir) -> Outcome:
    arm, config, folder = seeded.arm, seeded.config, f"train/{seeded.name}"
    skeleton, layout = skeleton_of(config.model), check_loadable(config.model)
    plan = plan_rounds(arm, config, run, layout, folder, seeded.selection, skeleton, seeded.begins_as)
    check_encoding(run, config.model)
    selection, total = first_selection(plan), skeleton.num_parameters()
    asked = selection.union() if selection else []
    trainable = arm.size(config, skeleton, layout, asked)
    print_start(arm, config, _batches(run), selection if arm.choice else None, trainable, total)
    for line in size_lines(arm, skeleton, layout, asked):
        print(line)
    rounds = list(run_rounds(plan))
    described = metadata(seeded, run, arm.size(config, skeleton, layout, union_of(rounds) or asked), rounds)
    everyone = config.train.masking == "union"
    final, delta = _final_model(run, folder, rounds[-1].left), _delta(arm, run, folder, rounds[-1].left)
    outputs = [*final, *_masks(run, folder, rounds, layout, everyone), *delta]
    run.write_json(f"{folder}/{METADATA}", described)
    steps = described["training_logs"]
    summary = {
        "arm": seeded.name,
        "steps": len(steps),
        "last_loss": steps[-1]["loss"],
        "final_model": f"{folder}/final_model" if final else None,
        "delta": delta[0] if delta else None,
        "experts": [list(pair) for pair in union_of(rounds)],
        "routers_trained": config.train.router.enabled,
        **{
            key: described[key]
            for key in ("trainable_ratio", "seconds_per_step", "tokens_per_second", "peak_memory_bytes")
        },
    }
    return Outcome(outputs=(*outputs, f"{folder}/{METADATA}"), summary=summary)


def plan_rounds(
    arm: Arm,
    config: Config,
    run: RunDir,
    layout: MoELayout,
    folder: str,
    selection: str,
    skeleton: PreTrainedModel,
    begins_as: str | None = None,
) -> Plan:
    """What the rounds of an arm need, checked: a family whose routing must be known has to be one whose rule is."""
    from moe_safety.checkpoints import check_comparable
    from moe_safety.models.routers import rule_of

    if not arm.trains_all:
        check_comparable(model_folder(config.model), trust_remote_code=config.model.trust_remote_code)
    if config.train.masking == "routing" or config.train.routing == "replay" or config.train.router.enabled:
        rule_of(skeleton)
    if LOSSES.get(arm.loss).disfavours_answers and not config.respond.filter:
        told = f"false keeps attacks that were refused, and the loss {arm.loss} would make these refusals less likely"
        raise InputError(told, key="respond.filter")
    if LOSSES.get(arm.loss).needs_reference and config.train.zero_stage == 3:
        told = f"the loss {arm.loss} also asks the model before training, which ZeRO-3 spreads; take stage 2"
        raise InputError(told, key="train.deepspeed")
    batches = _batches(run)
    numbers = sorted(set(_ids(batches)))
    if config.train.router.enabled:
        labels = zip(_ids(batches), batches["label"].to_pylist(), strict=True)
        if without := set(numbers) - {batch for batch, label in labels if label == "safe"}:
            message = f"batch {min(without)} has no safe prompt for the router phase to learn from"
            raise InputError(message, key="batches.safe_ratio")
    weights = batch_weights(config, run, batches)
    return Plan(arm, config, run, layout, folder, selection, weights, numbers, begins_as)


def _batches(run: RunDir) -> pa.Table:
    return run.read_table(BATCHES, ["batch_idx", "label", "prompt_id"])


def batch_weights(config: Config, run: RunDir, batches: pa.Table) -> dict[int, float]:
    """How much each batch's loss counts, where the configuration says so by number or by category."""
    given = dict(config.train.batch_weights)
    if not given:
        return {}
    prompts = run.read_table(PROMPTS, ["prompt_id", "category"])
    category = dict(zip(prompts["prompt_id"].to_pylist(), prompts["category"].to_pylist(), strict=True))
    attacked = zip(_ids(batches), batches["label"].to_pylist(), batches["prompt_id"].to_pylist(), strict=True)
    found: dict[int, set[str]] = {}
    for batch, label, prompt in attacked:
        if label == "unsafe":
            found.setdefault(batch, set()).add(category.get(prompt) or "")
    weights, used = {}, set()
    for batch in sorted(set(_ids(batches))):
        names = [str(batch), *(found.get(batch, set()) if len(found.get(batch, ())) == 1 else ())]
        if name := next((name for name in names if name in given), None):
            weights[batch] = given[name]
            used.add(name)
    if unknown := sorted(given.keys() - used):
        raise InputError(f"'{unknown[0]}' is neither a batch nor the category of one", key="train.batch_weights")
    return weights


def _ids(batches: pa.Table) -> list[int]:
    return batches["batch_idx"].to_pylist()


def _final_model(run: RunDir, folder: str, last: Task) -> list[str]:
    """The last round's model under its own name, where it left more than a delta."""
    final = f"{folder}/final_model"
    run.delete_folder(final)
    files = {name: f"{final}/{name.removeprefix(last.model_folder + '/')}" for name in run.files(last.model_folder)}
    in_threads(lambda each: run.link(*each), files.items())
    return list(files.values())


def _delta(arm: Arm, run: RunDir, folder: str, last: Task) -> list[str]:
    """What changed over all rounds, as a file of its own; where more than experts and routers did, or the type, the
    model is that."""
    name = f"{folder}/{DELTA}"
    run.delete(name)
    if not arm.has_delta:
        return []
    if not run.exists(last.delta):
        print("  no delta: the base is stored in other types than the model")
        return []
    run.link(last.delta, name)
    return [name]


def _masks(run: RunDir, folder: str, rounds: list[Round], layout: MoELayout, everyone: bool) -> list[str]:
    """What the arm may have moved, over all rounds, as masks; with `everyone` each batch moved all of them."""
    if rounds[-1].selection is None:
        return []
    mask = np.zeros(layout.shape, dtype=bool)
    for layer, expert in union_of(rounds):
        mask[layout.position(layer), expert] = True
    by_batch = np.zeros((len(rounds[-1].selection.per_batch), *layout.shape), dtype=bool)
    for each in rounds:
        union = each.selection.union() if each.selection else []
        for place, own in enumerate(each.selection.per_batch.values() if each.selection else ()):
            for layer, expert in union if everyone else own:
                by_batch[place, layout.position(layer), expert] = True
    for name, array in ((MASK, mask), (BATCH_MASKS, by_batch)):
        with run.writing(f"{folder}/{name}") as path, open(path, "wb") as file:
            np.save(file, array, allow_pickle=False)
    return [f"{folder}/{MASK}", f"{folder}/{BATCH_MASKS}"]
