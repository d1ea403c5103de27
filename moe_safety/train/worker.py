"""What one worker of a phase does: loads the model, trains, and leaves the model behind."""

from __future__ import annotations

import math
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.arms import ARMS, LOSSES, Trained, routers, token_losses
from moe_safety.errors import MoeSafetyError, RunError
from moe_safety.jobs.memory import is_out_of_memory
from moe_safety.models.experts import Gather, as_they_are, checkpointed
from moe_safety.models.io import Lent, dtype_of, forget_model, load_model, model_folder
from moe_safety.models.io.save import save_rest, save_weights
from moe_safety.models.kernels.graphs import recording_steps
from moe_safety.models.kernels.training import serves
from moe_safety.models.text.packed_attention import packing
from moe_safety.rundir import KINDS, Account, RunDir
from moe_safety.train.checkpoint import Checkpoints, Progress
from moe_safety.train.data import BatchData
from moe_safety.train.engines import Engine, PlainEngine, Tensors
from moe_safety.train.engines.deepspeed import DeepSpeedEngine, deepspeed_config, type_of
from moe_safety.train.engines.spread import gathered, read_spread
from moe_safety.train.float32_masters import copies, rounding
from moe_safety.train.loop import Loop, StoppedEarly
from moe_safety.train.optimizer import LazyAdamW, MasterAdamW
from moe_safety.train.phases import ExpertPhase, Phase, RouterPhase
from moe_safety.train.progress import Reached, publishing
from moe_safety.train.step_log import Watcher
from moe_safety.train.task import Task
from moe_safety.train.world import World


def work(task: Task, account: Account) -> None:
    """Trains one phase; worker 0 leaves `outcome.json` last, with what all of them spent since their accounts began. An
    error that another start would not mend is left there too, by the worker that met it. Who is asked to stop leaves a
    checkpoint and no outcome."""
    world, run = World(), RunDir(task.config.run_dir)
    if run.exists(task.outcome):
        return  # Ray started the workers again, and there is nothing to do.
    try:
        with publishing(run, task) if world.rank == 0 else nullcontext(Reached()) as reached:
            outcome = _train(task, world, run, reached)
    except StoppedEarly:
        return
    except Exception as failure:
        error = _told_in_a_line(failure, task)
        if error is None:
            raise
        told = {"error": str(error), "exit_code": error.exit_code}
        with suppress(RunError):  # The disk may be too full for it.
            run.write_json(task.outcome, told | task.known_by)
        raise error from failure  # Other workers may be waiting for this one: Ray ends them.
    if world.rank == 0:
        left = {*run.files(task.model_folder), *filter(run.exists, [task.delta])}
        files = outcome["files"] | run.digests(sorted(left - outcome["files"].keys()))
    spent = _spent_by_all(account, world)
    if world.rank == 0:
        run.write_json(task.outcome, outcome | task.known_by | {"files": files, "spent": spent})
        # Not before: what is done is done from here on.
        Checkpoints(run, f"{task.folder}/checkpoints", task.identity, world).clear()
    world.wait()


def _spent_by_all(account: Account, world: World) -> dict[str, float]:
    """The workers' seconds, by what they were spent on."""
    own = account.spent()[0]
    by_worker = world.gather([own.get(kind, 0.0) for kind in KINDS])
    return {kind: sum(each) for kind, each in zip(KINDS, zip(*by_worker, strict=True), strict=True) if any(each)}


def _told_in_a_line(failure: Exception, task: Task) -> MoeSafetyError | None:
    if isinstance(failure, MoeSafetyError):
        return failure
    if is_out_of_memory(failure):
        remedy = "take more of it, or more GPUs with train.deepspeed: 3"
        return RunError(f"{task.folder}: the model does not fit the memory; {remedy}")
    return None


def _train(task: Task, world: World, run: RunDir, reached: Reached) -> dict[str, Any]:
    settings, stage = task.config.train, task.config.train.zero_stage
    _forget_peak()
    data = BatchData(run)
    with ExitStack() as stack:
        watcher = stack.enter_context(Watcher(run, task, world))
        lent = Lent.of(task.config.model) if _stays(task) else None
        model = lent.model if lent else _loaded(task, world)
        total = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
        gather = gathered if stage == 3 else None
        trains = task.declared.trains if task.kind == "experts" and task.declared.trains else routers
        what = stack.enter_context(trains(model, task.declared.asked(task.config, task.layout, task.union, gather)))
        trained = what.parameters
        trainable = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trained.values())
        if settings.checkpointing:
            stack.enter_context(checkpointed(model))
        packed = stack.enter_context(packing(model))
        if packed and what.selective and world.size == 1 and _is_steady(task, model):
            stack.enter_context(recording_steps(model, trained.values()))
        start = copies(trained, gather or as_they_are) if task.kind == "router" else {}
        engine = _engine(task, model, trained, world)
        checkpoints = Checkpoints(run, f"{task.folder}/checkpoints", task.identity, world)

        def on_step(row: dict[str, Any]) -> None:
            reached.add(row)
            watcher(row)

        loop = Loop(
            phase=_phase(task, model, what, packed, stack),
            engine=engine,
            data=data,
            settings=settings,
            peak_rate=settings.router.lr if task.kind == "router" else settings.learning_rate,
            epochs=task.epochs,
            seed=task.config.seed,
            weights=task.weights,
            checkpoints=checkpoints,
            world=world,
            on_step=on_step,
            is_to_stop=_now_and_then(partial(run.exists, task.stop)),
        )
        reached.steps = loop.steps
        progress = loop.run()
        figures = _figures(progress, trainable, total, world)
        if task.kind == "router":
            rates = sum(row["learning_rate"] for row in progress.log)
            figures["rounding"] = rounding(start, trained, engine, gather or as_they_are, rates)
        stack.close()
        figures["files"] = _save(task, model, what, run, gather, world)
        if lent and run.exists(task.delta):
            lent.give_back(task.config.model.with_delta(run.uri_of(task.delta)))
    return figures


def _stays(task: Task) -> bool:
    """Whether the process that trains keeps its model for what comes next, which needs to know all that changed."""
    return task.config.train.launch == "process" and task.begins_at_base and task.declared.has_delta


def _loaded(task: Task, world: World) -> PreTrainedModel:
    """The model on this worker's device. Under ZeRO-3 its parameters are spread while they are read."""
    settings, given = task.config.train, task.config.model
    forget_model()
    if settings.zero_stage != 3:
        return load_model(given)
    dtype = dtype_of(given)
    config = deepspeed_config(settings.deepspeed, settings.clip, dtype)
    return read_spread(given, config, world.device, only=dtype if task.declared.trains_all else None)


def _engine(task: Task, model: PreTrainedModel, trained: Tensors, world: World) -> Engine:
    settings = task.config.train
    lazy = task.kind == "experts" and task.declared.optimizer == "lazy"
    numbers: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if not settings.on_deepspeed:
        optimizer = (LazyAdamW if lazy else MasterAdamW)(trained.values(), **numbers)
        return PlainEngine(trained, optimizer, settings.clip, world)
    # DeepSpeed keeps the float32 masters itself.
    kind = LazyAdamW if lazy else torch.optim.AdamW
    dtype = dtype_of(task.config.model) if task.declared.trains_all else type_of(trained)
    config = deepspeed_config(settings.deepspeed, settings.clip, dtype)
    return DeepSpeedEngine(model, kind(list(trained.values()), **numbers), config, world)


def _is_steady(task: Task, model: PreTrainedModel) -> bool:
    """Whether passes hang on nothing that changes from batch to batch but rows and masks, and the loss sees no more of
    them than what the model says."""
    if not serves(model.get_input_embeddings().weight):
        # Without kernels, what a pass does hangs on which experts the mask names.
        return False
    settings, loss = task.config.train, LOSSES.get(task.declared.loss)
    changing = settings.checkpointing or settings.masking == "routing" or settings.routing == "replay"
    return not (changing or settings.on_deepspeed) and loss.measures is token_losses


def _phase(task: Task, model: PreTrainedModel, what: Trained, packed: bool, stack: ExitStack) -> Phase:
    settings = task.config.train
    if task.kind == "router":
        return RouterPhase(
            model,
            task.layout,
            form=settings.router.kl,
            counted=task.config.capture.tokens,
            micro_batch_tokens=settings.micro_batch_tokens,
            packed=packed,
        )
    return ExpertPhase(
        model,
        task.layout,
        stack,
        loss=LOSSES.get(task.declared.loss),
        own=ARMS.settings(task.config.arms, task.arm),
        selective=what.selective,
        remember=what.remember,
        masks=dict(task.masks),
        masking=settings.masking,
        replay=settings.routing == "replay",
        labels=settings.labels,
        micro_batch_tokens=settings.micro_batch_tokens,
        packed=packed,
    )


def _save(
    task: Task,
    model: PreTrainedModel,
    what: Trained,
    run: RunDir,
    gather: Gather | None,
    world: World,
) -> dict[str, str]:
    """Leaves what changed and, unless that is enough, the model as a checkpoint of its own, with the tokenizer of the
    one that it came from. Returns the digests of its weights' files, which all workers write, each its own."""
    from moe_safety.checkpoints import write_trained

    first, digests = world.rank == 0, {}
    if first:
        run.delete_folder(task.model_folder)
        run.delete(task.delta)
    has_delta = False
    if (first or gather) and task.begins_at_base and task.declared.has_delta:
        given, out = task.config.model, run.uri_of(task.delta)
        experts = what.selective.experts if what.selective else []
        has_delta = write_trained(model, given, task.layout, what.changes, experts, out, gather=gather, writes=first)
    if task.config.train.save == "model" or not world.first([has_delta])[0]:
        world.wait()
        folder = run.uri_of(task.model_folder)
        digests = save_weights(model, folder, gather=gather, rank=world.rank, of=world.size)
        digests = {f"{task.model_folder}/{name}": digest for name, digest in _of_all(digests, world).items()}
        if first:
            with run.filling(task.model_folder) as local:
                _copy_tokenizer(model_folder(task.config.model), local)
            save_rest(model, folder)
    world.wait()
    return digests


def _of_all(digests: dict[str, str], world: World) -> dict[str, str]:
    """With those of the files that other workers wrote, when these are there."""
    own = [byte for digest in digests.values() for byte in bytes.fromhex(digest or "00" * 32)]
    together = bytes(int(sum(each)) for each in zip(*world.gather(own), strict=True))
    return {name: together[32 * n : 32 * n + 32].hex() for n, name in enumerate(digests)}


def _copy_tokenizer(source: Path, target: Path) -> None:
    for file in source.iterdir():
        known = file.suffix in (".json", ".jinja", ".model", ".txt", ".py") and "index" not in file.name
        if known and file.name != "config.json":
            shutil.copyfile(file, target / file.name)


def _now_and_then(ask: Callable[[], bool], every: float = 1.0) -> Callable[[], bool]:
    """Asks only so often, since steps may be faster than a store answers."""
    answered = -math.inf

    def asked() -> bool:
        nonlocal answered
        if time.monotonic() - answered < every:
            return False
        answered = time.monotonic()
        # A store that does not answer ends no training.
        with suppress(OSError):
            return ask()
        return False

    return asked


def _forget_peak() -> None:
    """A process may train one arm after another, and each shall tell of its own memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # Linux alone can; elsewhere the figure is that of the whole process.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _figures(progress: Progress, trainable: int, total: int, world: World) -> dict[str, Any]:
    """What the phase was, for the metadata; memory is the largest of any worker."""
    on_gpu = torch.cuda.is_available()
    own = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = int(max(each[0] for each in world.gather([own])))
    seconds = [row["seconds"] for row in progress.log]
    return {
        "log": progress.log,
        "trainable_params": trainable,
        "total_params": total,
        "seconds_per_step": sorted(seconds)[len(seconds) // 2] if seconds else None,
        "tokens_per_second": sum(row["tokens"] for row in progress.log) / max(sum(seconds), 1e-9),
        "peak_memory_bytes": peak,
        "finished": time.time(),
    }
