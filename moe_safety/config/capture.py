"""`capture`: which tokens are counted, and how prompts are packed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moe_safety.config.base import ModelJob


class CaptureConfig(ModelJob):
    """The section `capture`: which tokens are counted."""

    tokens: Literal["response", "prompt", "all"] = "response"
    """Tokens that are counted: of the observed answer, of the prompt, or of both."""
    max_tokens_per_forward: int = Field(16384, ge=1)
    """Tokens of one forward pass, padding included; fixes how prompts are packed."""
    per_token: bool = False
    """Keep also each token's experts, in `routing_tokens/`: some gigabytes for thousands of prompts."""
