"""The loop: batches in their order, a step for each group of them, checkpoints on the way. It is the same in this
process and under Ray Train."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from moe_safety.batches import Batch
from moe_safety.config import TrainConfig
from moe_safety.errors import RunError
from moe_safety.jobs.memory import is_out_of_memory
from moe_safety.train.checkpoint import Checkpoints, Progress
from moe_safety.train.data import BatchData, check_whole
from moe_safety.train.engines import Engine
from moe_safety.train.phases import Phase
from moe_safety.train.sampler import BatchPreservingSampler
from moe_safety.train.schedule import learning_rate
from moe_safety.train.world import World

LoggedStep = dict[str, Any]


@dataclass
class Loop:
    """One phase of training on one worker."""

    phase: Phase
    engine: Engine
    data: BatchData
    settings: TrainConfig
    peak_rate: float
    epochs: int
    seed: int
    weights: Mapping[int, float]
    """How much each batch's loss counts, where it is not 1."""
    checkpoints: Checkpoints
    world: World
    on_step: Callable[[LoggedStep], None]
    """Told each row of the log."""

    def __post_init__(self) -> None:
        self.sampler = BatchPreservingSampler(
            self.data.batch_idx,
            rank=self.world.rank,
            world=self.world.size,
            shuffle=self.settings.shuffle_batches,
            seed=self.seed,
        )
        self.sizes = Counter(self.data.batch_idx)
        self.per_step = self.world.size * self.settings.batches_per_worker
        self.steps_per_epoch = math.ceil(len(self.sizes) / self.per_step)
        self.steps = self.epochs * self.steps_per_epoch

    def run(self) -> Progress:
        """Goes on from the newest checkpoint, to the end."""
        progress = self.checkpoints.load_latest(self.engine)
        for step in range(progress.step, self.steps):
            started = time.perf_counter()
            with self._naming(step):
                row = self._step(step)
            row["seconds"] = time.perf_counter() - started
            progress.log.append(row)
            progress.step = step + 1
            self.on_step(row)
            if progress.step % self.settings.checkpoint_every == 0 and progress.step < self.steps:
                self.checkpoints.save(progress, self.engine)
        return progress

    def _step(self, step: int) -> LoggedStep:
        epoch, within = divmod(step, self.steps_per_epoch)
        self.sampler.set_epoch(epoch)
        here = self.sampler.order()[within * self.per_step : (within + 1) * self.per_step]
        losses, tokens = [math.nan] * self.settings.batches_per_worker, 0
        slots = self.settings.batches_per_worker
        for slot, batch in enumerate(self._my_batches(within)):
            passes = self._passes(batch)
            # The last kind of pass is the one that goes backward.
            backward = _Backward(self.engine, last_slot=slot == slots - 1, passes=passes[-1])
            loss = self.phase.run(batch, passes, 1 / len(here), backward)
            if batch:
                losses[slot] = loss
                tokens += sum(len(example) for example in batch.examples)
        by_batch = self._losses(here, losses)
        rate = learning_rate(self.peak_rate, step, self.steps, self.settings)
        norm = self.engine.step(rate)
        if not math.isfinite(norm):
            raise RunError(f"the gradient of {self._told(here)} is {norm}; {self._what_is_left()}")
        return {
            "step": step,
            "epoch": epoch,
            "batch_idx": here,
            "loss": sum(by_batch) / len(by_batch),
            "batch_losses": by_batch,
            "active_experts": [self.phase.active(batch) for batch in here],
            "learning_rate": rate,
            "tokens": int(sum(each[0] for each in self.world.gather([tokens]))),
        }

    def _my_batches(self, within: int) -> Iterator[Batch | None]:
        """This worker's batches of a step; None where it has fewer than others."""
        slots = self.settings.batches_per_worker
        mine = self.sampler.mine()[within * slots : (within + 1) * slots]
        for slot in range(slots):
            yield self._read(mine[slot]) if slot < len(mine) else None

    def _read(self, batch_idx: int) -> Batch:
        examples = [self.data[row] for row in self.sampler.rows(batch_idx)]
        check_whole(batch_idx, examples, self.sizes[batch_idx])
        return Batch(batch_idx, examples, self.weights.get(batch_idx, 1.0))

    def _passes(self, batch: Batch | None) -> list[int]:
        """Of each kind, as many as the worker with the most; one at least, since a step needs a backward pass."""
        return [max(1, most) for most in self.world.largest(self.phase.passes(batch))]

    def _losses(self, here: list[int], mine: list[float]) -> list[float]:
        """Each batch's loss, in the step's order. A loss that is no number ends the run before the step is made."""
        # Batch n of the step stands with worker n % size, in its slot n // size.
        by_rank = self.world.gather(mine)
        found = [by_rank[place % self.world.size][place // self.world.size] for place in range(len(here))]
        for batch, loss in zip(here, found, strict=True):
            if not math.isfinite(loss):
                raise RunError(f"the loss of batch {batch} is {loss}; {self._what_is_left()}")
        return found

    @contextmanager
    def _naming(self, step: int) -> Iterator[None]:
        """Out of memory is said with the batches it happened on."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _, within = divmod(step, self.steps_per_epoch)
            here = self.sampler.order()[within * self.per_step : (within + 1) * self.per_step]
            rows = max(self.sizes[batch] for batch in here)
            raise RunError(
                f"{self._told(here)}, of up to {rows} rows, does not fit the memory; lower train.micro_batch_tokens, "
                "set train.checkpointing, or take a higher train.deepspeed stage"
            ) from error

    @staticmethod
    def _told(batches: Sequence[int]) -> str:
        return f"batch {', '.join(map(str, batches))}"

    def _what_is_left(self) -> str:
        return f"nothing was overwritten, last checkpoint: {self.checkpoints.latest()}"


class _Backward:
    """Passes losses to the engine and says which one is the step's last."""

    def __init__(self, engine: Engine, *, last_slot: bool, passes: int) -> None:
        self.engine, self.last_slot, self.left = engine, last_slot, passes

    def __call__(self, loss: torch.Tensor) -> None:
        self.left -= 1
        self.engine.backward(loss, self.last_slot and self.left == 0)
