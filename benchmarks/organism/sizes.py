"""How large an organism is, and how long it learns. A step is done again where its size changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["mixtral", "qwen2_moe"]
"""Qwen3-MoE and OLMoE normalise queries and keys, so that a copy in their layout would not be the dense model."""
LAYOUTS: tuple[Layout, ...] = ("mixtral", "qwen2_moe")


@dataclass(frozen=True)
class Course:
    """Steps of training, and how fast."""

    steps: int
    rows: int
    """Prompts with their answers, in a batch."""
    experts: float = 3e-4
    routers: float = 1e-3
    warm_up: int = 20


@dataclass(frozen=True)
class Size:
    """One size of organism."""

    layers: int
    """The first so many of the dense model's; all of them but for the smoke test."""
    experts: int
    top_k: int
    answers: int
    """How many the dense model writes; one in sixteen is held out, by what it is about."""
    answer_tokens: int
    at_once: int
    """Answers written together."""
    clustered: int
    """Rows whose activations routers start from."""
    upcycling: Course
    craft: Course
    alignment: Course
    examined: int
    """Held-out rows that a measure reads."""
    asked: int
    """Requests of each kind, in an exam of behaviour."""


SIZES: dict[str, Size] = {
    # The recipe of the plan: 3 million tokens of own text, 800 steps of 32,000 tokens.
    "full": Size(
        30,
        16,
        2,
        18_000,
        192,
        3_072,
        128,
        Course(800, 144),
        Course(300, 128, 1e-4, 3e-4),
        Course(300, 128, 1e-4, 3e-4),
        512,
        200,
    ),
    # What a few minutes of a card allow: it shows where the recipe stands, and is no organism.
    "pilot": Size(30, 16, 2, 9_216, 160, 4_608, 128, Course(150, 144), Course(60, 128), Course(60, 128), 256, 64),
    "smoke": Size(
        4, 4, 2, 64, 24, 32, 16, Course(50, 8, warm_up=5), Course(50, 8, warm_up=5), Course(50, 8, warm_up=5), 16, 4
    ),
}
