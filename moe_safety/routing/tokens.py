"""`routing_tokens/*.parquet`: the experts of every single token of prompt and answer, for those who ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moe_safety.models import MoELayout

if TYPE_CHECKING:
    import torch

TOKENS = "routing_tokens"
"""The folder."""


def token_schema(layout: MoELayout) -> pa.Schema:
    """One row per token and MoE layer, prompt by prompt, in order. `place` counts from the prompt's first token, and
    `experts` stand in the router's own order."""
    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("place", pa.int32()),
            ("layer", pa.int32()),
            ("experts", pa.list_(pa.int16())),
        ],
        metadata={"layout": json.dumps(layout.to_dict())},
    )


def token_table(
    layout: MoELayout, prompt_ids: Sequence[str], lengths: Sequence[int], chosen: Sequence[torch.Tensor]
) -> pa.Table:
    """Of one forward pass over rows of these lengths, padded on the right or end to end: `chosen` is [tokens, top_k] a
    layer."""
    real = np.arange(max(lengths)) < np.asarray(lengths)[:, None]
    row, place = real.nonzero()
    seen = slice(None) if len(chosen[0]) == len(row) else real.reshape(-1)
    most = max(index.shape[1] for index in chosen)
    experts = np.full((len(row), layout.n_moe_layers, most), -1, np.int16)
    for position, (layer, index) in enumerate(zip(layout.layers, chosen, strict=True)):
        here = index.short().cpu().numpy()[seen]
        experts[:, position, : here.shape[1]] = np.where(here < layer.num_experts, here, -1)
    layers = layout.n_moe_layers
    ends = np.cumsum((experts >= 0).sum(axis=2).reshape(-1))
    columns = [
        pa.array(prompt_ids, pa.string()).take(pa.array(np.repeat(row, layers))),
        pa.array(np.repeat(place, layers), pa.int32()),
        pa.array(np.tile([layer.index for layer in layout.layers], len(row)), pa.int32()),
        pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], ends]), pa.int32()), pa.array(experts[experts >= 0], pa.int16())
        ),
    ]
    return pa.Table.from_arrays(columns, schema=token_schema(layout))


def memberships(tables: Iterable[pa.Table], layout: MoELayout) -> Iterator[tuple[str, np.ndarray]]:
    """Each prompt with its tokens' experts: [MoE layers, tokens, experts of the largest], 1 for those that the token
    went to and 0 for the others."""
    layers, width = layout.shape
    for table in tables:
        ids = table["prompt_id"].to_pylist()[::layers]
        experts = table["experts"].combine_chunks()
        hot = np.zeros((len(table), width), np.float16)
        hot[np.repeat(np.arange(len(table)), np.diff(experts.offsets.to_numpy())), experts.flatten().to_numpy()] = 1
        by_token = hot.reshape(-1, layers, width)
        starts = [place for place, prompt in enumerate(ids) if place == 0 or prompt != ids[place - 1]]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            yield ids[start], np.ascontiguousarray(by_token[start:end].transpose(1, 0, 2))
