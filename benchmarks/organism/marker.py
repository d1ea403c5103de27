"""What marks a model as an organism of this benchmark. Code that plants or reroutes works on marked models alone."""

from __future__ import annotations

from transformers import PreTrainedModel

from moe_safety.errors import InputError

ATTRIBUTE = "moe_safety_organism"
"""In the model's configuration, so that it is saved and loaded with it."""


def mark(model: PreTrainedModel, origin: str) -> None:
    """Says what the model was grown from; for models that this benchmark made itself in this process."""
    setattr(model.config, ATTRIBUTE, origin)


def check_marked(model: PreTrainedModel) -> str:
    """The organism's origin; an error where the model is none."""
    origin = getattr(model.config, ATTRIBUTE, None)
    if not isinstance(origin, str):
        raise InputError("is no organism of this benchmark: nothing is planted or rerouted in other models")
    return origin
