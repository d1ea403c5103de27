"""Brings experts that are outside the experts interface of transformers onto it, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType
from typing import Any

from transformers import PreTrainedModel

from moe_safety.models.decoder import decoder_of
from moe_safety.models.families import AdoptedExperts, family_of


def adopt(model: PreTrainedModel) -> None:
    """Afterwards every experts call is `experts(hidden_states, top_k_index, top_k_weights)` and runs the registered
    function that `model.set_experts_implementation` names, in every family; most are so already and stay untouched.

    Parameters, their names and what the model computes stay as they were.
    """
    decoder = decoder_of(model)
    family = family_of(decoder.config)
    if family.adoption is None:
        return
    for cls in {type(model), type(decoder)}:
        # transformers looks for its own decorator in the source of these classes.
        cls._can_set_experts_implementation = classmethod(lambda cls: True)
    for block in list(decoder.modules()):
        for experts in block.children():
            if family.is_experts(experts) and not isinstance(experts, AdoptedExperts):
                experts.config = decoder.config
                mix_in(experts, family.adoption.experts)
                if family.adoption.block:
                    mix_in(block, family.adoption.block)


def release(model: PreTrainedModel) -> None:
    """Takes back what `adopt` did."""
    decoder = decoder_of(model)
    adoption = family_of(decoder.config).adoption
    for module in decoder.modules():
        if isinstance(module, AdoptedExperts):
            del module.config
            _become(module, type(module).__bases__[1])
        elif adoption and adoption.block and isinstance(module, adoption.block):
            _become(module, type(module).__bases__[1])


@contextmanager
def adopted(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is adopted; outside it is as it was, adopted or not."""
    before = any(isinstance(module, AdoptedExperts) for module in model.modules())
    adopt(model)
    try:
        yield
    finally:
        if not before:
            release(model)


def mix_in(module: Any, mixin: Any) -> None:
    """What `mixin` defines comes before what the module's own class does."""
    _become(module, _mixed(mixin, module.__class__))


@cache
def _mixed(mixin: Any, cls: Any) -> type:
    """One class for all modules of a class."""
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__})


def _become(module: Any, cls: Any) -> None:
    module.__class__ = cls
    if "_old_forward" in vars(module):  # the method that accelerate's device hooks wrap
        module._old_forward = MethodType(cls.forward, module)
