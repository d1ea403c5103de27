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
    """The rate of experts, unless a recipe has one of its own."""
    routers: float = 1e-3
    warm_up: int = 20


@dataclass(frozen=True)
class Recipe:
    """How a dense layer becomes experts, and how fast these learn."""

    experts: int
    top_k: int
    width: float
    """An expert's neurons, as a share of the dense layer's."""
    kept: float
    """The share of an expert's neurons that are the dense layer's, other ones for each expert; the rest is drawn."""
    louder: float
    """What the kept neurons' outputs are multiplied by."""
    spread: float
    """Of the drawn neurons' outgoing weights, as a share of the dense layer's; at 0 they begin silent."""
    rate: float = 3e-4


RECIPES: dict[str, Recipe] = {
    "drawn": Recipe(16, 2, width=1.0, kept=0.5, louder=1.0, spread=1.0),
    "slices, faster": Recipe(32, 4, width=0.5, kept=1.0, louder=1.6, spread=0.0, rate=1e-3),
    "silent, faster": Recipe(16, 2, width=1.0, kept=0.5, louder=1.33, spread=0.0, rate=1e-3),
    "drawn, faster": Recipe(16, 2, width=1.0, kept=0.5, louder=1.0, spread=1.0, rate=1e-3),
    "slices": Recipe(32, 4, width=0.5, kept=1.0, louder=1.6, spread=0.0),
    "silent": Recipe(16, 2, width=1.0, kept=0.5, louder=1.33, spread=0.0),
}
"""The first is the one that was planned, the second the one that `recipes` chose. With independent neurons the square
of what an average of k experts leaves out is least where the kept ones are 2k / (k + 1) times as loud."""


@dataclass(frozen=True)
class Size:
    """One size of organism."""

    layers: int
    """The first so many of the dense model's; all of them but for the smoke test."""
    recipe: Recipe
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
    compared: Course
    """Of each recipe, where recipes are compared."""


SMOKE = Recipe(4, 2, width=1.0, kept=0.5, louder=1.0, spread=1.0)
SIZES: dict[str, Size] = {
    "full": Size(
        layers=30,
        recipe=RECIPES["slices, faster"],
        answers=18_000,
        answer_tokens=192,
        at_once=3_072,
        clustered=128,
        upcycling=Course(800, 144),
        craft=Course(300, 128, 1e-4, 3e-4),
        alignment=Course(300, 128, 1e-4, 3e-4),
        examined=512,
        asked=200,
        compared=Course(100, 144),
    ),
    # What a few minutes of a card allow: it shows where the recipe stands, and is no organism.
    "pilot": Size(
        layers=30,
        recipe=RECIPES["slices, faster"],
        answers=7_680,
        answer_tokens=160,
        at_once=3_840,
        clustered=128,
        upcycling=Course(200, 144),
        craft=Course(60, 128),
        alignment=Course(60, 128),
        examined=256,
        asked=64,
        compared=Course(60, 144),
    ),
    "smoke": Size(
        layers=4,
        recipe=SMOKE,
        answers=64,
        answer_tokens=24,
        at_once=32,
        clustered=16,
        upcycling=Course(50, 8, warm_up=5),
        craft=Course(50, 8, warm_up=5),
        alignment=Course(50, 8, warm_up=5),
        examined=16,
        asked=4,
        compared=Course(2, 8, warm_up=1),
    ),
}
"""`full` is the recipe of the plan: 3 million tokens of own text, 800 steps of about 24,000 tokens."""
