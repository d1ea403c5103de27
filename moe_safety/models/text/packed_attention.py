"""Attention among rows that stand end to end in one line of tokens, so that none is padded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from moe_safety.errors import first_line
from moe_safety.models.decoder import decoder_of
from moe_safety.models.text.answer_losses import make_rows

NAME = "moe_safety_packed"
_HALVES = (torch.bfloat16, torch.float16)
_TRIED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
"""Whether a model was found to compute the same of packed rows."""
_UNKNOWN = ("sliding_window", "softcap", "s_aux", "position_bias")
"""What attention may be asked for that the kernel is not."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: [1, heads, tokens, width] to [1, tokens, heads, width]. Rows that are not
    packed go to transformers' own."""
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    asked = [name for name in _UNKNOWN if others.get(name) is not None]
    if asked or attention_mask is not None:
        raise NotImplementedError(f"attention with {', '.join(asked) or 'a mask'} does not take packed rows")
    width, filled = value.shape[-1], query.shape[-1]
    if width != filled:
        value = torch.nn.functional.pad(value, (0, filled - width))
    # The kernel of `torch.nn.attention.varlen`, whose own arguments change from release to release.
    out = torch.ops.aten._flash_attention_forward(
        *(each.squeeze(0).transpose(0, 1) for each in (query, key, value)),
        *(cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q),
        *(0.0, True, False),
        scale=scaling,
    )[0]
    # Slices are taken where they must be: their gradients are copies.
    return (out if width == filled else out[..., :width]).unsqueeze(0), None


AttentionInterface.register(NAME, packed_attention)


@contextmanager
def packing(model: PreTrainedModel) -> Iterator[bool]:
    """Inside, rows may be packed where this says so: on a card in half precision, if no layer looks beyond its row by
    anything but plain attention. Elsewhere rows are padded."""
    if not (_is_on_a_card(model) and _packs(model)):
        yield False
        return
    with _attending(model):
        yield True


def _packs(model: PreTrainedModel) -> bool:
    if model not in _TRIED:
        plain = model.config._attn_implementation == "sdpa" and packable(model)
        _TRIED[model] = plain or _told(f"layers of {model.config.model_type} look beyond a row by more than attention")
        if plain:
            with _attending(model):
                _TRIED[model] = _agrees(model)
    return _TRIED[model]


@contextmanager
def _attending(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model attends by our function. It is given no masks, so only rows without padding on the left fit."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def packable(model: PreTrainedModel) -> bool:
    """Whether rows can stand end to end: all layers attend by transformers' functions to all that comes before, and
    none carries anything else from token to token."""
    config = decoder_of(model).config
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return model._supports_attention_backend and types == {"full_attention"} and not any(windows)


def _is_on_a_card(model: PreTrainedModel) -> bool:
    """Whether it is whole on one, in half precision."""
    weight = model.get_input_embeddings().weight
    whole = len({each.device for each in model.parameters()}) == 1 and not hasattr(weight, "ds_id")
    return weight.is_cuda and weight.dtype in _HALVES and whole


@torch.no_grad()
def _agrees(model: PreTrainedModel) -> bool:
    """Whether the model computes the same of packed rows: tried on a few."""
    chance = torch.Generator().manual_seed(0)
    few = min(model.config.get_text_config().vocab_size, 1000)
    rows = [torch.randint(few, (length,), generator=chance).tolist() for length in (9, 16, 5)]
    padded, packed = (
        make_rows(rows, [[]] * 3, model.get_input_embeddings().weight.device, packed=packed) for packed in (False, True)
    )
    try:
        there, here = (decoder_of(model)(**each.inputs, use_cache=False)[0].float() for each in (padded, packed))
    except Exception as error:
        return _told(first_line(error))
    off = (there[padded.real] - here[0]).norm(dim=-1) / there[padded.real].norm(dim=-1)
    # Rounding may send a token to another expert; what sees another row is off everywhere.
    return bool(off.median() < 0.03) or _told(f"packed rows are off by {off.median():.3f}")


def _told(reason: str) -> bool:
    logging.getLogger(__name__).warning("rows are padded, which is slower: %s", reason)
    return False
