"""Opens slots on a model, or says why it cannot be served so: tried on a few tokens against its own forward pass."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from moe_safety.errors import first_line
from moe_safety.models.slots.pages import PAGE, NotServed
from moe_safety.models.slots.passes import Passes, Segment

_LENGTHS, _SAID = (70, 33), 3
_SHARE = 0.5
"""Of the memory that is free, what keys and values take at most: losses come by the same model."""
_TOKENS = 1024
"""Of a slot's prompt and answer, on average, that there is room for. Longer ones leave others waiting."""
_LONGEST = 1 << 17
"""Tokens of a model that names no longest prompt."""


@torch.inference_mode()
def opened(model: PreTrainedModel, slots: int, chunk: int) -> Passes:
    """The passes of so many slots, as graphs on a GPU. How many pages there are follows from the memory that is free:
    it changes how many prompts run at once, and no answer."""
    _check(model)
    each = _bytes_per_page(model)
    pages = slots * _TOKENS // PAGE
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
        pages = min(pages, int(_SHARE * torch.cuda.mem_get_info()[0]) // each)
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _LONGEST
    passes = Passes(model, slots, chunk, pages + 1, -(-window // PAGE))
    if model.device.type == "cuda":
        _record(passes)
    return passes


def _record(passes: Passes) -> None:
    """Makes graphs of the passes. Some families ask the GPU for numbers on the way, which a graph cannot."""
    try:
        passes.capture()
    except Exception as error:
        raise NotServed(f"its passes cannot be recorded: {first_line(error)}") from error


def _check(model: PreTrainedModel) -> None:
    if len({parameter.device for parameter in model.parameters()}) > 1:
        raise NotServed("it is spread over several devices")
    if model.device.type == "cuda" and model.dtype != torch.bfloat16:
        raise NotServed(f"its weights are not bfloat16 but {str(model.dtype).removeprefix('torch.')}")
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    whole = getattr(config, "use_sliding_window", True) is False or not any(windows)
    types = getattr(config, "layer_types", None)
    # Too wide a window to show on a few tokens.
    if set(types) != {"full_attention"} if types else not whole:
        raise NotServed("not all of its layers see the whole prompt")
    kinds = [getattr(module, "rope_type", None) for module in model.modules()]
    names = {name for kind in kinds for name in (kind.values() if isinstance(kind, dict) else [kind])}
    if names & {"dynamic", "longrope"}:
        raise NotServed("its rotary embeddings change with the longest prompt of a pass")


def _bytes_per_page(model: PreTrainedModel) -> int:
    """What a page takes in all layers, found while trying the model."""
    try:
        return _tried(model)
    except NotServed:
        raise
    except Exception as error:  # Whatever it is, this is no usual decoder.
        raise NotServed(f"its decoder has a way of its own: {first_line(error)}") from error


def _tried(model: PreTrainedModel) -> int:
    passes = Passes(model, slots=2, chunk=256, pages=8, pages_each=3)
    chance = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [torch.randint(vocabulary, (length,), generator=chance).tolist() for length in _LENGTHS]
    passes.table[0], passes.table[1, :2] = torch.tensor([3, 1, 5]), torch.tensor([2, 4])
    passes.take_up([Segment(slot, 0, row, True) for slot, row in enumerate(rows)])
    passes.state.copy_(torch.tensor([[len(row), 0, _SAID, 0, 0, -1] for row in rows]).T)
    for _ in range(_SAID):
        passes.say()
    for slot, row in enumerate(rows):
        whole = torch.tensor([row + passes.said[slot, :_SAID].tolist()], device=passes.device)
        expected = model(input_ids=whole, use_cache=False).logits[0, -1].float()
        error = float((passes.logits[slot].float() - expected).norm() / expected.norm())
        if not error < (1e-3 if model.dtype == torch.float32 else 0.2):
            raise NotServed(f"its logits come out {error:.1e} away")
    return passes.cache.bytes_per_page
