"""`gradients`: how a batch's backward pass is run."""

from __future__ import annotations

from pydantic import Field

from moe_safety.config.base import ModelJob, resource


class GradientsConfig(ModelJob):
    """The section `gradients`."""

    micro_batch_tokens: int | None = Field(None, ge=1)
    """Cuts a batch into backward passes of at most this many tokens, whose gradients are added up; whole unless given.
    A batch that runs out of memory is cut anyway, and the log says so."""
    checkpointing: bool = resource(False)
    """Compute activations again in the backward pass instead of keeping them."""
