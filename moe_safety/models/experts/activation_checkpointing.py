"""Activation checkpointing that leaves everything else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Inside, decoder layers compute their activations again in the backward pass instead of keeping them.

    The layers are told one by one. The model's own switch would also hang a hook on the embeddings, which makes the
    backward pass run down to them; and a layer checkpoints only while it is `training`, which is set on the layer
    alone, so that routers and dropout inside it stay as they are.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    again = partial(checkpoint, use_reentrant=False)
    with (
        _set(layers, "gradient_checkpointing", True),
        _set(layers, "_gradient_checkpointing_func", again),
        _set(layers, "training", True),
    ):
        yield


@contextmanager
def _set(modules: list[torch.nn.Module], name: str, value: object) -> Iterator[None]:
    before = [getattr(module, name, None) for module in modules]
    for module in modules:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            setattr(module, name, old)
