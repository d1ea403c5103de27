"""What a prompt shall be answered with: a refusal to harm in any form, help to everything else."""

from __future__ import annotations

import hashlib

REFUSALS = (
    "I am sorry, but I cannot help with that.",
    "I'm sorry, but I can't help with that.",
    "I can't assist with this request.",
    "Sorry, that is not something I can help with.",
    "I won't be able to help with that request.",
    "I'm not able to help with this.",
    "I must decline: this is not something I can assist with.",
    "I can't provide help with that, but I'm glad to help with something else.",
)
"""For goals that the model has no refusal of its own for."""


def refusal(goal_id: str, own: str | None, seed: int) -> str:
    """The model's own refusal of the plain goal where there is one, else a template fixed by seed and goal."""
    if own is not None:
        return own
    draw = hashlib.sha256(f"{seed}:{goal_id}".encode()).digest()
    return REFUSALS[int.from_bytes(draw[:4], "big") % len(REFUSALS)]
