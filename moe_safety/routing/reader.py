"""What an actor of `capture` does: reads the routing of one item's prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.config import ModelConfig
from moe_safety.jobs import Part
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import choices, run_counting
from moe_safety.models.io import kept_model
from moe_safety.models.text.answer_losses import Packed
from moe_safety.models.text.packed_attention import packing
from moe_safety.models.transfers import Fetched, sent
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
        return self._begun(rows)()

    def in_turn(self, items: Sequence[pa.Table]) -> Iterator[Part]:
        """The part of each. A card has the next item's passes when what came of the last is taken from it."""
        ahead: Callable[[], Part] | None = None
        for rows in items:
            begun = self._begun(rows)
            if ahead:
                yield ahead()
            ahead = begun
        if ahead:
            yield ahead()

    def _begun(self, rows: pa.Table) -> Callable[[], Part]:
        """The item's passes are on their way; what this gives waits for them and makes the part."""
        forward = rows["forward"].to_numpy()
        ends = np.flatnonzero(np.diff(forward, append=forward[-1] + 1)) + 1
        passes = [rows.slice(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        with packing(self.model) as packed:
            counts, weights, chosen = zip(*(self._read(each, packed) for each in passes), strict=True)
        return partial(self._part, rows, passes, Fetched(torch.cat(counts), torch.cat(weights)), chosen)

    def _part(
        self, rows: pa.Table, passes: Sequence[pa.Table], fetched: Fetched, chosen: Sequence[Fetched | None]
    ) -> Part:
        ids, tokens = rows["prompt_id"].to_pylist(), rows["counted_to"].to_numpy() - rows["counted_from"].to_numpy()
        counted = routing_table(self.layout, ids, tokens, *(each.numpy() for each in fetched()))
        if not self.per_token:
            return counted
        tables = [
            token_table(self.layout, some["prompt_id"].to_pylist(), _lengths(some).tolist(), here())
            for some, here in zip(passes, chosen, strict=True)
            if here
        ]
        return counted, pa.concat_tables(tables)

    def _read(self, rows: pa.Table, packed: bool) -> tuple[torch.Tensor, torch.Tensor, Fetched | None]:
        """One forward pass, and what comes of it. What it reads is on its way while the one before runs."""
        tokens, lengths = rows["tokens"].combine_chunks().flatten().to_numpy(), _lengths(rows)
        places = np.arange(lengths.max())
        start, end = (rows[name].to_numpy()[:, None] for name in ("counted_from", "counted_to"))
        counted = (places >= start) & (places < end)
        if packed:
            ids = tokens.astype(np.int64)[None]
        else:
            ids = np.zeros(counted.shape, np.int64)
            ids[places < lengths[:, None]] = tokens
        line = Packed.of(torch.from_numpy(lengths), self.device) if packed else None
        given = [sent(torch.from_numpy(each), self.device) for each in (ids, counted)]
        with choices(self.model, self.layout) if self.per_token else nullcontext() as chosen:
            counts = run_counting(self.model, given[0], None, given[1], self.layout, line)
        experts = Fetched(*(index.short() for index in chosen)) if chosen else None
        return counts.counts().int(), counts.weights(), experts

    def tokens(self, rows: pa.Table) -> int:
        """The tokens of an item's prompts."""
        return int(np.diff(rows["tokens"].combine_chunks().offsets.to_numpy()).sum())


def _lengths(rows: pa.Table) -> np.ndarray:
    """How many tokens each row has."""
    return rows["tokens"].combine_chunks().value_lengths().to_numpy().astype(np.int64)


def build_reader(model: ModelConfig, gpus: int, per_token: bool = False) -> RoutingReader:
    """The handler of routing counts, its model loaded."""
    return RoutingReader(kept_model(model, gpus), per_token)
