"""What a replica does to see how robust a repair is. Nothing that weakens a model outlasts these functions: the
order of experts is a local name, and the weights that are fine-tuned are a copy, which is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.config import EvaluateConfig
from moe_safety.errors import RunError
from moe_safety.evaluate.robustness import BATCH, MARGINS_SCHEMA, TRAINING
from moe_safety.generation import Engine
from moe_safety.models.experts import Trial, holding_back, margins, margins_and_first_order
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.train.optimizer import MasterAdamW

RATE = 2e-5
"""The learning rate of fine-tuning, for every model."""
TOLD = 4
"""So many times on its way the margin is told."""

Trials = dict[str, Trial]
"""By the prompt's id."""


def held_back(settings: EvaluateConfig, engine: Engine, rows: pa.Table) -> pa.Table:
    """The margins of an item's prompts with none and more of the experts held back, those first that refusing hangs on
    most, as one backward pass foresees it."""
    trials, _ = _read(rows)
    model, layout = engine.model, engine.layout
    pairs = layout.experts()
    found: list[tuple[str, int, float]] = []
    packs = list(_packs(list(trials.values()), settings))
    foreseen = torch.cat([margins_and_first_order(model, some, layout)[1] for some in packs]).double().sum(dim=0)
    order = sorted(pairs, key=lambda pair: float(foreseen[layout.position(pair[0]), pair[1]]))
    for many in (0, *(number for number in settings.held_back if number < len(pairs))):
        without = torch.zeros(1, *layout.shape, dtype=torch.bool)
        for layer, expert in order[:many]:
            without[0, layout.position(layer), expert] = True

        def margins_without(some: Sequence[Trial], without: torch.Tensor = without) -> torch.Tensor:
            with holding_back(model, layout, without.expand(2 * len(some), -1, -1)):
                return margins(model, some)

        found += _told(trials, many, [margins_without(some) for some in packs])
    return _table(found)


def finetuned(settings: EvaluateConfig, engine: Engine, rows: pa.Table) -> pa.Table:
    """The margins of an item's prompts while a copy of the model learns the item's training rows, whole, by AdamW with
    float32 masters: steps of this size would round away in bfloat16, and the repair would look the firmer for it."""
    trials, examples = _read(rows)
    own, steps = deepcopy(engine.model).requires_grad_(True), settings.after_finetuning
    optimizer = MasterAdamW(own.parameters(), lr=RATE)
    asked = sorted({round(steps * part / TOLD) for part in range(TOLD + 1)})
    found: list[tuple[str, int, float]] = []
    for step in range(steps + 1):
        if step in asked:
            with torch.inference_mode():
                packs = [margins(own, some) for some in _packs(list(trials.values()), settings)]
            found += _told(trials, step, packs)
        if step < steps:
            _learn(own, optimizer, [examples[(step * BATCH + place) % len(examples)] for place in range(BATCH)])
    return _table(found)


def _learn(model: PreTrainedModel, optimizer: torch.optim.Optimizer, examples: Sequence[Trial]) -> None:
    device = model.get_input_embeddings().weight.device
    rows = make_rows([one.prompt for one in examples], [one.safe for one in examples], device)
    optimizer.zero_grad()
    answer_losses(model, rows)[0].mean().backward()
    optimizer.step()


def _read(rows: pa.Table) -> tuple[Trials, list[Trial]]:
    """The prompts with their two answers, and the rows to learn, whose one answer stands as the safe one."""
    if rows["seed"][0].as_py() != len(rows):
        raise RunError("robustness is measured of all prompts in one piece, which does not fit the memory")
    before: dict[str, list[Trial]] = {}
    for row in rows.to_pylist():
        known = Trial([*row["tokens"], *row["prefix"]], row["answer"], row["answer"])
        before.setdefault(row["prompt_id"], []).append(known)
    examples = before.pop(TRAINING, [])
    return {name: Trial(safe.prompt, safe.safe, unsafe.safe) for name, (safe, unsafe) in before.items()}, examples


def _packs(trials: Sequence[Trial], settings: EvaluateConfig) -> Iterator[Sequence[Trial]]:
    """As many as go into a forward pass, in order."""
    at_once = max(1, settings.max_tokens_per_forward // 8 // (2 * max(trial.length for trial in trials)))
    for start in range(0, len(trials), at_once):
        yield trials[start : start + at_once]


def _told(trials: Trials, at: int, packs: Sequence[torch.Tensor]) -> list[tuple[str, int, float]]:
    values = torch.cat([pack.detach().double().cpu() for pack in packs]).tolist()
    return [(name, at, value) for name, value in zip(trials, values, strict=True)]


def _table(found: Sequence[tuple[str, int, float]]) -> pa.Table:
    columns = dict(zip(MARGINS_SCHEMA.names, zip(*found, strict=True), strict=True))
    return pa.table(columns, schema=MARGINS_SCHEMA)
