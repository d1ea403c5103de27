"""What an actor of `capture` does: reads the routing of one item's prompts."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel

from moe_safety.config import ModelConfig
from moe_safety.jobs import Part
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import choices, run_counting
from moe_safety.models.io import kept_model
from moe_safety.routing.table import routing_table
from moe_safety.routing.tokens import token_table


@dataclass
class RoutingReader:
    """Handles one item: a few forward passes."""

    model: PreTrainedModel
    per_token: bool = False
    """Whether each token's experts are wanted too, as a second table."""
    divisible: bool = True
    layout: MoELayout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = inspect_model(self.model)
        self.device = self.model.get_input_embeddings().weight.device

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> Part:
        forward = rows["forward"].to_numpy()
        ends = np.flatnonzero(np.diff(forward, append=forward[-1] + 1)) + 1
        starts = [0, *ends[:-1]]
        by_token: list[pa.Table] = []
        read = [self._read(rows.slice(start, end - start), by_token) for start, end in zip(starts, ends, strict=True)]
        counts, weights = (torch.cat(parts).cpu().numpy() for parts in zip(*read, strict=True))
        tokens = rows["counted_to"].to_numpy() - rows["counted_from"].to_numpy()
        counted = routing_table(self.layout, rows["prompt_id"].to_pylist(), tokens, counts, weights)
        return (counted, pa.concat_tables(by_token)) if self.per_token else counted

    def _read(self, rows: pa.Table, by_token: list[pa.Table]) -> tuple[torch.Tensor, torch.Tensor]:
        """One forward pass. What it reads is on its way while the one before runs."""
        tokens = rows["tokens"].combine_chunks()
        lengths, places = tokens.value_lengths().to_numpy(), np.arange(pc.max(tokens.value_lengths()).as_py())
        ids = np.zeros((len(rows), len(places)), np.int64)
        ids[places < lengths[:, None]] = tokens.flatten().to_numpy()
        start, end = (rows[name].to_numpy()[:, None] for name in ("counted_from", "counted_to"))
        sent = [self._sent(one) for one in (ids, (places >= start) & (places < end))]
        with choices(self.model, self.layout) if self.per_token else nullcontext() as chosen:
            counts = run_counting(self.model, sent[0], None, sent[1], self.layout)
        if chosen is not None:
            by_token.append(token_table(self.layout, rows["prompt_id"].to_pylist(), lengths.tolist(), chosen))
        return counts.counts().int(), counts.weights()

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        """Without waiting for what the device has yet to do."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def tokens(self, rows: pa.Table) -> int:
        """The tokens of an item's prompts."""
        return int(np.diff(rows["tokens"].combine_chunks().offsets.to_numpy()).sum())


def build_reader(model: ModelConfig, gpus: int, per_token: bool = False) -> RoutingReader:
    """The handler of routing counts, its model loaded."""
    return RoutingReader(kept_model(model, gpus), per_token)
