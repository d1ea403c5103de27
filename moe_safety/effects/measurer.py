"""What actors of `effects` do: foresee every expert's effect on a few prompts, or measure some experts' on one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.config import EffectsConfig, ModelConfig
from moe_safety.effects.table import effects_table
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import (
    Trial,
    Way,
    Whole,
    evaluating,
    holding_back,
    margin_and_effects,
    margins_and_first_order,
    way_of,
)
from moe_safety.models.io import kept_model
from moe_safety.models.text.answer_losses import answer_losses, make_rows, mean_by_row


@dataclass
class _Weigher:
    model: PreTrainedModel
    max_tokens: int
    divisible: bool = True
    layout: MoELayout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = inspect_model(self.model)

    def tokens(self, rows: pa.Table) -> int:
        return sum(2 * trial.length for trial in trials_of(rows))

    def _without(self, held: list[int]) -> AbstractContextManager[None]:
        """Inside, these experts are held back in every row."""
        if not held:
            return nullcontext()
        without = torch.zeros(self.layout.shape, dtype=torch.bool)
        without.view(-1)[held] = True
        return holding_back(self.model, self.layout, without[None])

    def _table(self, rows: pa.Table, found: list[float], effects: torch.Tensor) -> pa.Table:
        ids, labels = rows["prompt_id"].to_pylist(), rows["label"].to_pylist()
        return effects_table(self.layout, ids, labels, found, effects.numpy())


class Foreseer(_Weigher):
    """Handles a few prompts: the first-order estimate for every expert."""

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        return self._table(rows, *margins_and_first_order(self.model, trials_of(rows), self.layout))


@dataclass
class Measurer(_Weigher):
    """Handles a prompt and the experts that its row names, in forward passes of at most `max_tokens` tokens."""

    longest: Trial = field(kw_only=True)
    """Of all trials of the job: what its way of holding experts back is tried on, so that all actors find the same."""
    held: list[int] = field(kw_only=True)
    """Places of experts that are held back throughout."""
    way: Way = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.way = way_of(self.model, [self.longest], self.layout, self.max_tokens)

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        trials, experts = trials_of(rows), rows["experts"].to_pylist()
        if self.way == Whole():
            notes["shared"] = "nothing: this model takes a whole forward pass for each expert"
        with self._without(self.held):
            found = [
                margin_and_effects(self.model, trial, self._pairs(chosen), self.layout, self.way, self.max_tokens)
                for trial, chosen in zip(trials, experts, strict=True)
            ]
        margins, effects = zip(*found, strict=True)
        return self._table(rows, list(margins), torch.stack(effects))

    def tokens(self, rows: pa.Table) -> int:
        """The tokens that an item's forward passes read."""
        chosen = [len(experts) for experts in rows["experts"].to_pylist()]
        return sum(2 * trial.length * count for trial, count in zip(trials_of(rows), chosen, strict=True))

    def _pairs(self, chosen: list[int]) -> list[tuple[int, int]]:
        places = (divmod(place, self.layout.max_experts) for place in chosen)
        return [(self.layout.layers[position].index, expert) for position, expert in places]


@dataclass
class Harmless(_Weigher):
    """Handles a few harmless prompts: the loss of the answers to them, each with the experts of each set held back."""

    sets: list[list[int]] = field(kw_only=True)

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        trials = trials_of(rows)
        losses = torch.stack([self._losses(trials, held) for held in self.sets], dim=1)
        return pa.table({"prompt_id": rows["prompt_id"], "losses": pa.array(losses.tolist(), pa.list_(pa.float32()))})

    @torch.inference_mode()
    def _losses(self, trials: list[Trial], held: list[int]) -> torch.Tensor:
        device = self.model.get_input_embeddings().weight.device
        rows = make_rows([trial.prompt for trial in trials], [trial.unsafe for trial in trials], device)
        with self._without(held), evaluating(self.model):
            losses, row = answer_losses(self.model, rows)
        return mean_by_row(losses, row, len(trials))


def trials_of(rows: pa.Table) -> list[Trial]:
    """The trials in rows of a plan."""
    columns = (rows[name].to_pylist() for name in ("prompt", "safe", "unsafe"))
    return [Trial(*trial) for trial in zip(*columns, strict=True)]


def build_foreseer(model: ModelConfig, settings: EffectsConfig) -> Foreseer:
    """The handler of first-order estimates, its model loaded."""
    return Foreseer(kept_model(model, settings.gpus_per_replica), settings.max_tokens_per_forward)


def build_measurer(model: ModelConfig, settings: EffectsConfig, longest: Trial, held: list[int]) -> Measurer:
    """The handler of measured effects, its model loaded."""
    loaded = kept_model(model, settings.gpus_per_replica)
    return Measurer(loaded, settings.max_tokens_per_forward, longest=longest, held=held)


def build_harmless(model: ModelConfig, settings: EffectsConfig, sets: list[list[int]]) -> Harmless:
    """The handler of losses on harmless answers, its model loaded."""
    return Harmless(kept_model(model, settings.gpus_per_replica), settings.max_tokens_per_forward, sets=sets)
