"""Routing shift: how far a model's routers have moved from the base's, on the same tokens.

An attack can fail because tokens now go to other experts, or because the same experts now say something else. The
shift tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.errors import InputError
from moe_safety.evaluate.plan import ROUTING
from moe_safety.generation import Engine
from moe_safety.generation.items import given_answers, tables_of
from moe_safety.jobs import Parts
from moe_safety.models import MoELayout
from moe_safety.models.decoder import decoder_of
from moe_safety.models.routers import divergence, probabilities, recording, rule_of, top_k_overlap
from moe_safety.models.text import pad_right

ROUTING_SCHEMA = pa.schema(
    [("prompt_id", pa.string()), ("tokens", pa.int32()), ("probabilities", pa.binary()), ("choices", pa.binary())]
)
"""A row per prompt: float32 [MoE layers, tokens, experts of the largest] and int16 [MoE layers, tokens, top_k]."""


def can_read(model: PreTrainedModel) -> bool:
    """Whether the family's routers are known; its skeleton is enough."""
    try:
        rule_of(model)
    except InputError:
        return False
    return True


def read_item(engine: Engine, rows: pa.Table) -> pa.Table:
    """An item of prompts with their reference answers."""
    tokens = [before + answer for before, answer in zip(*given_answers(rows), strict=True)]
    return read_routing(engine.model, engine.layout, rows["prompt_id"].to_pylist(), tokens)


@torch.inference_mode()
def read_routing(
    model: PreTrainedModel, layout: MoELayout, prompt_ids: Sequence[str], tokens: Sequence[Sequence[int]]
) -> pa.Table:
    """The routers' distributions and choices for every token."""
    ids = pad_right(tokens, model.get_input_embeddings().weight.device)
    with recording(model, layout) as chosen, probabilities(model, layout) as likely:
        decoder_of(model)(input_ids=ids, use_cache=False)
    widest, top_k = layout.max_experts, max(layer.top_k for layer in layout.layers)
    shape = (layout.n_moe_layers, *ids.shape)
    likely_all = _stack(likely.layers, widest, 0.0).view(*shape, widest).float().numpy()
    chosen_all = _stack(chosen.layers, top_k, -1).view(*shape, top_k).to(torch.int16).numpy()
    columns = {
        "prompt_id": list(prompt_ids),
        "tokens": [len(row) for row in tokens],
        "probabilities": [likely_all[:, row, : len(own)].tobytes() for row, own in enumerate(tokens)],
        "choices": [chosen_all[:, row, : len(own)].tobytes() for row, own in enumerate(tokens)],
    }
    return pa.table(columns, schema=ROUTING_SCHEMA)


def _stack(layers: Sequence[torch.Tensor], width: int, filler: float) -> torch.Tensor:
    padded = (torch.nn.functional.pad(layer, (0, width - layer.shape[1]), value=filler) for layer in layers)
    return torch.stack([layer.cpu() for layer in padded])


def routing_shift(base: Parts, own: Parts, layout: MoELayout, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Mean KL(base || own) and mean share of experts kept, for each kind of prompt and each layer, over all tokens of
    prompts and their reference answers. Nothing where the two were not read on the same tokens, or a router gives no
    numbers."""
    kl: dict[str, np.ndarray] = {}
    kept: dict[str, np.ndarray] = {}
    tokens: dict[str, int] = {}
    for before, after in _pairs(base, own):
        if before is None or after is None or before.of != after.of:
            return None
        label, shape = labels[before.prompt_id], (layout.n_moe_layers, before.tokens, -1)
        target, now = (torch.tensor(one.probabilities.reshape(shape)).double() for one in (before, after))
        first, second = (torch.tensor(one.choices.reshape(shape)) for one in (before, after))
        kl[label] = kl.get(label, 0) + divergence(target, now, "forward").sum(dim=1).numpy()
        kept[label] = kept.get(label, 0) + before.tokens * _overlap(first, second, layout)
        tokens[label] = tokens.get(label, 0) + before.tokens
    if not tokens or not all(np.isfinite(sums).all() for sums in kl.values()):
        return None
    return {
        "layers": [layer.index for layer in layout.layers],
        "tokens": tokens,
        "kl": {label: (kl[label] / count).tolist() for label, count in tokens.items()},
        "top_k_overlap": {label: (kept[label] / count).tolist() for label, count in tokens.items()},
        "mean_kl": {label: float(kl[label].mean() / count) for label, count in tokens.items()},
        "mean_overlap": {label: float(kept[label].mean() / count) for label, count in tokens.items()},
    }


def _overlap(before: torch.Tensor, after: torch.Tensor, layout: MoELayout) -> np.ndarray:
    """Layer by layer, since layers may choose different numbers of experts."""
    every = torch.ones(before.shape[1], dtype=torch.bool)
    shares = [
        top_k_overlap(before[n : n + 1, :, : layer.top_k], after[n : n + 1, :, : layer.top_k], every)
        for n, layer in enumerate(layout.layers)
    ]
    return torch.cat(shares).double().numpy()


@dataclass(frozen=True)
class _Reading:
    prompt_id: str
    tokens: int
    probabilities: np.ndarray
    choices: np.ndarray

    @property
    def of(self) -> tuple[str, int, int, int]:
        """What two readings must have in common."""
        return self.prompt_id, self.tokens, self.probabilities.size, self.choices.size


def _pairs(base: Parts, own: Parts) -> Iterator[tuple[_Reading | None, _Reading | None]]:
    """Both models' readings of each prompt, one item's at a time. Equal plans have equal items in equal order."""
    for before, after in zip_longest(tables_of(base, ROUTING), tables_of(own, ROUTING)):
        yield from zip_longest(_readings(before), _readings(after))


def _readings(table: pa.Table | None) -> Iterator[_Reading]:
    for row in table.to_pylist() if table else ():
        likely, chosen = np.frombuffer(row["probabilities"], np.float32), np.frombuffer(row["choices"], np.int16)
        yield _Reading(row["prompt_id"], row["tokens"], likely, chosen)
