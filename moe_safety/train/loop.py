"""The loop: batches in their order, a step for each group of them, checkpoints on the way. It is the same in this
process and under Ray Train."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from moe_safety.batches import Batch
from moe_safety.config import TrainConfig
from moe_safety.errors import RunError
from moe_safety.jobs.memory import is_out_of_memory
from moe_safety.models.transfers import Fetched
from moe_safety.rundir import spent
from moe_safety.stopping import gently
from moe_safety.train.checkpoint import Checkpoints, Progress
from moe_safety.train.data import BatchData, check_whole
from moe_safety.train.engines import Engine
from moe_safety.train.phases import Phase
from moe_safety.train.sampler import BatchPreservingSampler
from moe_safety.train.schedule import learning_rate
from moe_safety.train.world import World

LoggedStep = dict[str, Any]


class StoppedEarly(Exception):
    """The loop was asked to stop, and has left a checkpoint."""


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
    is_to_stop: Callable[[], bool] = lambda: False
    """Whether somebody elsewhere asks to stop; asked of worker 0."""

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
        self.stopping = threading.Event()
        """Set in this process; all workers stop at the same step."""
        self._stops = False

    def run(self) -> Progress:
        """Goes on from the newest checkpoint, to the end; or, where somebody asks to stop, to a checkpoint and to
        `StoppedEarly`."""
        with gently(self.stopping.set):
            return self._run()

    def _run(self) -> Progress:
        progress = self.checkpoints.load_latest(self.engine)
        self._since, late = time.perf_counter(), deque[_Made]()
        for step in range(progress.step, self.steps):
            with self._naming(step), spent("computing"):
                late.append(self._step(step))
            saves = (step + 1) % self.settings.checkpoint_every == 0 and step + 1 < self.steps
            # A card's numbers are read when it has the next step's work. Not so before anything is written.
            may_wait = late[-1].waits and not saves and step + 1 < self.steps
            while len(late) > (may_wait and not self._stops):
                with spent("computing"):
                    self._tell(late.popleft(), progress)
            if saves or self._stops:
                self.checkpoints.save(progress, self.engine)
                self._since = time.perf_counter()
            if self._stops:
                raise StoppedEarly
        return progress

    def _step(self, step: int) -> _Made:
        epoch, within = divmod(step, self.steps_per_epoch)
        self.sampler.set_epoch(epoch)
        here = self.sampler.order()[within * self.per_step : (within + 1) * self.per_step]
        slots = self.settings.batches_per_worker
        losses, tokens = [torch.tensor(math.nan)] * slots, [0] * slots
        for slot, batch in enumerate(self._my_batches(within, step / self.steps)):
            passes = self._passes(batch)
            # The last kind of pass is the one that goes backward.
            backward = _Backward(self.engine, last_slot=slot == slots - 1, passes=passes[-1])
            loss = self.phase.run(batch, passes, 1 / len(here), backward)
            if batch:
                losses[slot], tokens[slot] = loss, self.phase.tokens(batch)
        rate = learning_rate(self.peak_rate, step, self.steps, self.settings)
        norm = torch.as_tensor(self.engine.step(rate))
        numbers = [each.to(self.phase.device, torch.float64, non_blocking=True) for each in (*losses, norm)]
        return _Made(step, here, rate, tokens, torch.stack(numbers))

    def _tell(self, made: _Made, progress: Progress) -> None:
        """Adds a step to the log. A loss or a gradient that is no number ends the run, before anything is written."""
        *mine, norm = made.numbers
        asked = self.world.rank == 0 and self.is_to_stop()
        by_rank = self.world.gather([*mine, *made.tokens, asked or self.stopping.is_set()])
        self._stops |= any(each[-1] for each in by_rank)
        # Batch n of the step stands with worker n % size, in its slot n // size.
        places = [divmod(place, self.world.size) for place in range(len(made.batches))]
        losses = [by_rank[rank][slot] for slot, rank in places]
        tokens = [int(by_rank[rank][len(mine) + slot]) for slot, rank in places]
        for batch, loss in zip(made.batches, losses, strict=True):
            if not math.isfinite(loss):
                raise RunError(f"the loss of batch {batch} is {loss}; {self._what_is_left()}")
        if not math.isfinite(norm):
            raise RunError(f"the gradient of {self._told(made.batches)} is {norm}; {self._what_is_left()}")
        now = time.perf_counter()
        row = {
            "step": made.step,
            "epoch": made.step // self.steps_per_epoch,
            "batch_idx": made.batches,
            "loss": sum(losses) / len(losses),
            "batch_losses": losses,
            "active_experts": [self.phase.active(batch) for batch in made.batches],
            "learning_rate": made.rate,
            "tokens": sum(tokens),
            "batch_tokens": tokens,
            "seconds": now - self._since,
        }
        self._since = now
        progress.log.append(row)
        progress.step = made.step + 1
        self.on_step(row)

    def _my_batches(self, within: int, done: float) -> Iterator[Batch | None]:
        """This worker's batches of a step; None where it has fewer than others."""
        slots = self.settings.batches_per_worker
        mine = self.sampler.mine()[within * slots : (within + 1) * slots]
        for slot in range(slots):
            yield self._read(mine[slot], done) if slot < len(mine) else None

    def _read(self, batch_idx: int, done: float) -> Batch:
        examples = [self.data[row] for row in self.sampler.rows(batch_idx)]
        check_whole(batch_idx, examples, self.sizes[batch_idx])
        return Batch(batch_idx, examples, self.weights.get(batch_idx, 1.0), done)

    def _passes(self, batch: Batch | None) -> list[int]:
        """Of each kind, as many as the worker with the most; one at least, since a step needs a backward pass."""
        return [max(1, most) for most in self.world.largest(self.phase.passes(batch))]

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


class _Made:
    """A step that is made, and what the log will tell of it."""

    def __init__(self, step: int, batches: list[int], rate: float, tokens: list[int], numbers: torch.Tensor) -> None:
        self.step, self.batches, self.rate, self.tokens = step, batches, rate, tokens
        self._numbers = Fetched(numbers)

    @property
    def waits(self) -> bool:
        """Whether a card has yet to say the numbers."""
        return self._numbers.waits

    @property
    def numbers(self) -> list[float]:
        """The losses of this worker's batches, and the norm of the gradient."""
        return self._numbers()[0].tolist()


class _Backward:
    """Passes losses to the engine and says which one is the step's last."""

    def __init__(self, engine: Engine, *, last_slot: bool, passes: int) -> None:
        self.engine, self.last_slot, self.left = engine, last_slot, passes

    def __call__(self, loss: torch.Tensor) -> None:
        self.left -= 1
        self.engine.backward(loss, self.last_slot and self.left == 0)
