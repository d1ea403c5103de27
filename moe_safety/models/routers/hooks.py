"""Stands between routers and experts: sees every call of a router, and may name other experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from moe_safety.errors import InputError
from moe_safety.models.decoder import decoder_of
from moe_safety.models.families import RouterCall, Rule, declared
from moe_safety.models.hooks import hooked
from moe_safety.models.layout import MoELayout

Act = Callable[[int, Rule, RouterCall], torch.Tensor | None]
"""From a layer's position, the rule and the call to other experts [tokens, top_k], or None to leave all as it is."""


def rule_of(model: PreTrainedModel) -> Rule:
    """How the model's routers choose."""
    family = declared(decoder_of(model).config.model_type)
    if family.rule is None:
        told = f"how {family.name} routers choose experts is not known here, so nothing can prefer or avoid any"
        raise InputError(told)
    return family.rule


@contextmanager
def at_routers(model: PreTrainedModel, layout: MoELayout, act: Act) -> Iterator[None]:
    """Inside, routers behave as in `eval()`, and `act` is asked at each call; what it names gets the rule's weights.

    Contexts may stand inside each other: the inner one sees what the outer one made of the router's answer. Under
    activation checkpointing `act` is asked again in the backward pass and must say the same. `model.train()` belongs
    outside.
    """
    rule = rule_of(model)

    def hook(position: int, router: torch.nn.Module, args: Any, kwargs: Any, answer: Any) -> Any:
        call = _read(router, args, answer)
        index = act(position, rule, call)
        return None if index is None else (call.logits, rule.weights(call, index), index)

    handles = [
        model.get_submodule(layer.router).register_forward_hook(partial(hook, position), with_kwargs=True)
        for position, layer in enumerate(layout.layers)
    ]
    with hooked(handles), _as_in_eval(model, layout):
        yield


def _read(router: torch.nn.Module, args: tuple[Any, ...], answer: Any) -> RouterCall:
    # Granite's routers answered the other way round in older releases of transformers.
    if not (isinstance(answer, tuple) and len(answer) == 3 and not answer[2].is_floating_point()):
        raise InputError(f"{type(router).__name__} does not answer logits, weights and indices; update transformers")
    logits, weights, index = answer
    return RouterCall(router, args[1] if len(args) > 1 else None, logits, weights, index)


@contextmanager
def _as_in_eval(model: PreTrainedModel, layout: MoELayout) -> Iterator[None]:
    """Noise on a router's input may be drawn in the block around it. The block alone is told, not what is inside; and
    not a decoder layer, which checkpoints its activations only while it is `training`."""
    blocks = [model.get_submodule(layer.name) for layer in layout.layers]
    inner = [module for layer in layout.layers for module in model.get_submodule(layer.router).modules()]
    modules = [block for block in blocks if not isinstance(block, GradientCheckpointingLayer)] + inner
    before = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training
