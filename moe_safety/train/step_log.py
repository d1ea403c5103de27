"""Tells of every step, and of what is warned of: lines where somebody looks, and curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from moe_safety.errors import MoeSafetyError
from moe_safety.jobs import warnings_to
from moe_safety.rundir import RunDir
from moe_safety.train.log_relay import Teller
from moe_safety.train.task import Task
from moe_safety.train.world import World

_CURVES = ("loss", "learning_rate", "seconds")


class Watcher:
    """The log of steps: worker 0 writes curves for TensorBoard and prints lines; the other workers do nothing."""

    def __init__(self, run: RunDir, task: Task, world: World) -> None:
        self.run, self.task, self.speaks = run, task, world.rank == 0
        self._stack = ExitStack()

    def __enter__(self) -> Watcher:
        if self.speaks:
            folder = self._stack.enter_context(self.run.filling(f"{self.task.folder}/tensorboard"))
            # Without a limit to what waits: on a full disk nothing is taken from the queue any more.
            self._writer = self._stack.enter_context(SummaryWriter(str(folder), max_queue=0))
            self._say = self._voice()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Curves that cannot be written do not end the run.
        with suppress(OSError, MoeSafetyError):
            self._stack.close()

    def __call__(self, row: Mapping[str, Any]) -> None:
        if not self.speaks:
            return
        for name in _CURVES:
            self._writer.add_scalar(f"{self.task.kind}/{name}", row[name], row["step"])
        active = f", {max(row['active_experts'])} experts" if max(row["active_experts"]) else ""
        self._say(
            f"{self.task.folder} step {row['step'] + 1}: batches {row['batch_idx']}, loss {row['loss']:.4f}{active}, "
            f"learning rate {row['learning_rate']:.2e}, {row['seconds']:.2f} s, "
            f"{row['tokens'] / row['seconds']:,.0f} tokens/s"
        )

    def _voice(self) -> Callable[[str], None]:
        """Prints where the user sees it: here, or through the driver."""
        if self.task.config.train.launch == "process":
            return partial(print, flush=True)
        teller = Teller(self.run, self.task.told)
        self._stack.callback(teller.tell)
        self._stack.enter_context(warnings_to(lambda line: teller(f"{self.task.folder}: {line}")))
        return teller
