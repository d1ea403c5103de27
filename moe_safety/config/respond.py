"""`respond`: the base model's answers."""

from __future__ import annotations

from pydantic import Field

from moe_safety.config.base import ModelJob


class RespondConfig(ModelJob):
    max_new_tokens: int = Field(128, ge=1)
    """Longest answer."""
    temperature: float = Field(1.0, ge=0)
    """For safe and unsafe prompts; 0 is greedy. Benign and control prompts are always answered greedily."""
    max_length: int = Field(2048, ge=1)
    """Longest prompt in tokens; longer ones are cut from the left."""
    max_tokens_per_forward: int = Field(32768, ge=1)
    """Prompt and answer tokens generated together; fixes how prompts are packed."""
    filter: bool = True
    """Drop pairs whose plain form was not refused or whose attack form was not answered. Harmless requests that were
    refused, and have no answer of their own to learn, are left out in any case."""
