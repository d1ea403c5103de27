"""`respond`: the base model's answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moe_safety.config.base import ModelJob
from moe_safety.config.names import ENGINES
from moe_safety.config.registry import NameIn


class RespondConfig(ModelJob):
    """The section `respond`: how the base model answers."""

    recorded: bool = True
    """Take the answers that files record; off, the model answers every prompt for itself."""
    engine: Annotated[str, NameIn(ENGINES)] = "slots"
    """What generates the answers: `slots`, fast on a GPU, or `transformers`, the reference; settings of an engine's own
    stand under `engines`."""
    max_new_tokens: int = Field(128, ge=1)
    """Longest answer."""
    max_thinking_tokens: int = Field(1024, ge=0)
    """Longest thinking of a model whose template knows of it, not counted as part of the answer. Where it is used up,
    thinking is closed and the model answers."""
    temperature: float = Field(1.0, ge=0)
    """For safe and unsafe prompts; 0 is greedy. Benign and control prompts are always answered greedily."""
    max_length: int = Field(2048, ge=1)
    """Longest prompt in tokens; a longer one is not answered, and left out with its pair."""
    max_tokens_per_forward: int = Field(32768, ge=1)
    """Prompt and answer tokens worked on together, 64 prompts at most; fixes how prompts are packed. What the engine
    `slots` answers it takes up by `engines.slots`."""
    filter: bool = True
    """Drop pairs whose plain form was not refused or whose attack form was not answered. Harmless requests that were
    refused, and have no answer of their own to learn, are left out in any case."""
