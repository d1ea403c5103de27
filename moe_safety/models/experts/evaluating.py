"""A model as it is asked, whatever mode it was left in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is in `eval()`: some routers draw noise while training."""
    if not any(module.training for module in model.modules()):
        # Telling all modules takes as long as two layers.
        yield
        return
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
