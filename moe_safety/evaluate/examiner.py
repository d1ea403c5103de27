"""What an actor of `evaluate` does: lets a model answer, weighs given answers, reads its routing, runs tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.batches.answers import answers_table, limits_of
from moe_safety.config import EvaluateConfig
from moe_safety.evaluate.plan import ANSWERS, LOSSES, ROUTING, TASKS
from moe_safety.evaluate.shift import read_routing
from moe_safety.evaluate.subjects import Subject
from moe_safety.models.answers import answer_losses, make_rows
from moe_safety.models.chat import Chat
from moe_safety.models.choosing import avoiding
from moe_safety.models.generate import Generator
from moe_safety.models.kept import kept_model
from moe_safety.models.layout import MoELayout, inspect_model
from moe_safety.models.load import load_chat

LOSSES_SCHEMA = pa.schema([("prompt_id", pa.string()), ("loss", pa.float64()), ("answer_tokens", pa.int32())])
"""The losses of a reference answer's tokens, summed."""


@dataclass
class Examiner:
    """Handles one item, of whatever kind it is."""

    subject: Subject
    settings: EvaluateConfig
    divisible: bool = True
    model: PreTrainedModel = field(init=False)
    chat: Chat = field(init=False)
    layout: MoELayout = field(init=False)

    def __post_init__(self) -> None:
        self.model = kept_model(self.subject.model, self.settings.gpus_per_replica)
        self.chat = load_chat(self.subject.model)
        self.layout = inspect_model(self.model)
        self.kinds: dict[str, Callable[[pa.Table], pa.Table]] = {
            ANSWERS: self._answer,
            LOSSES: self._weigh,
            ROUTING: self._read,
            TASKS: self._solve,
        }

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        handle = self.kinds[rows["kind"][0].as_py()]
        avoided = self.subject.avoided
        with avoiding(self.model, self.layout, avoided) if avoided else nullcontext():
            return handle(rows)

    def tokens(self, rows: pa.Table) -> int:
        given = sum(len(row) for name in ("tokens", "answer") for row in rows[name].to_pylist())
        return given + (len(rows) * self.settings.max_new_tokens if rows["kind"][0].as_py() == ANSWERS else 0)

    def _answer(self, rows: pa.Table) -> pa.Table:
        generator = Generator(self.model, self.chat, limits_of(self.settings))
        temperatures = [self.settings.temperature] * len(rows)
        answers = generator.answer(rows["tokens"].to_pylist(), temperatures, rows["seed"].to_pylist())
        return answers_table(generator, rows["prompt_id"].to_pylist(), answers)

    @torch.inference_mode()
    def _weigh(self, rows: pa.Table) -> pa.Table:
        device = self.model.get_input_embeddings().weight.device
        asked = make_rows(rows["tokens"].to_pylist(), rows["answer"].to_pylist(), device)
        losses, row = answer_losses(self.model, asked)
        sums = torch.zeros(len(rows), dtype=torch.float64, device=losses.device)
        sums.index_add_(0, row.to(losses.device), losses.double())
        counts = [len(answer) for answer in rows["answer"].to_pylist()]
        columns = {"prompt_id": rows["prompt_id"].combine_chunks(), "loss": sums.tolist(), "answer_tokens": counts}
        return pa.table(columns, schema=LOSSES_SCHEMA)

    def _read(self, rows: pa.Table) -> pa.Table:
        tokens = [a + b for a, b in zip(rows["tokens"].to_pylist(), rows["answer"].to_pylist(), strict=True)]
        return read_routing(self.model, self.layout, rows["prompt_id"].to_pylist(), tokens)

    def _solve(self, rows: pa.Table) -> pa.Table:
        from moe_safety.evaluate.harness import solve

        (task,) = rows["prompt_id"].to_pylist()
        return solve(self.model, self.chat.tokenizer, task, self.settings)
