"""Tells of every step: a line where somebody looks, and curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from tensorboardX import SummaryWriter

from moe_safety.rundir import RunDir
from moe_safety.train.task import Task
from moe_safety.train.world import World

_CURVES = ("loss", "learning_rate", "seconds")


class Watcher:
    """Worker 0 speaks, the others are silent."""

    def __init__(self, run: RunDir, task: Task, world: World) -> None:
        self.run, self.task, self.speaks = run, task, world.rank == 0
        self._stack = ExitStack()

    def __enter__(self) -> Watcher:
        if self.speaks:
            folder = self._stack.enter_context(self.run.filling(f"{self.task.folder}/tensorboard"))
            self._writer = self._stack.enter_context(SummaryWriter(str(folder)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, row: Mapping[str, Any]) -> None:
        if not self.speaks:
            return
        for name in _CURVES:
            self._writer.add_scalar(f"{self.task.kind}/{name}", row[name], row["step"])
        active = f", {max(row['active_experts'])} experts" if max(row["active_experts"]) else ""
        print(
            f"{self.task.folder} step {row['step'] + 1}: batches {row['batch_idx']}, loss {row['loss']:.4f}{active}, "
            f"learning rate {row['learning_rate']:.2e}, {row['seconds']:.2f} s",
            flush=True,
        )
