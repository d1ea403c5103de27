"""`effects`: which experts are held back, on which prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from moe_safety.config.base import ModelJob, at_least_one


class EffectsConfig(ModelJob):
    """The section `effects`: which experts are held back, on which prompts."""

    candidates: Annotated[Literal["all"] | int, AfterValidator(at_least_one)] = 128
    """Experts that are measured exactly, chosen by the first-order estimate; `all` measures every one."""
    prompts: int = Field(64, ge=1)
    """Unsafe prompts, and as many control prompts, that they are measured on."""
    opening: int = Field(16, ge=1)
    """Tokens of an answer's opening."""
    max_tokens_per_forward: int = Field(32768, ge=1)
    """Tokens of one forward pass, padding included."""
