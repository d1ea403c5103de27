"""What a sweep tries: for each key of the configuration, the values that it may take."""

from __future__ import annotations

import json
import random
from math import exp, log
from typing import Any

from pydantic import Field, model_validator

from moe_safety.config.base import Section

Point = dict[str, Any]
"""A value for every key of a space. What stands in a `choice` is written as JSON, so that any value has a name."""


class Domain(Section):
    """The values that one key may take: exactly one of these."""

    choice: list[Any] | None = Field(None, min_length=1)
    """One of these; a mapping sets several keys below the swept one at once."""
    uniform: list[float] | None = Field(None, min_length=2, max_length=2)
    """A number between the two."""
    log_uniform: list[float] | None = Field(None, min_length=2, max_length=2)
    """The same, each order of magnitude equally often."""
    integer: list[int] | None = Field(None, min_length=2, max_length=2)
    """A whole number from the first to the second, both included."""
    log_integer: list[int] | None = Field(None, min_length=2, max_length=2)
    """The same, each order of magnitude equally often."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Domain:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"takes exactly one of {', '.join(type(self).model_fields)}")
        if self.choice is None:
            low, high = self.bounds
            if low >= high:
                raise ValueError(f"{given[0]} goes from a lower to a higher number")
            if self.is_log and low <= 0:
                raise ValueError(f"{given[0]} needs numbers above 0")
        elif len({json.dumps(value, sort_keys=True) for value in self.choice}) < len(self.choice):
            raise ValueError("a choice is named twice")
        return self

    @property
    def is_log(self) -> bool:
        """Whether values are drawn on a logarithmic scale."""
        return self.log_uniform is not None or self.log_integer is not None

    @property
    def is_whole(self) -> bool:
        """Whether values are whole numbers."""
        return self.integer is not None or self.log_integer is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value of a range."""
        low, high = self.uniform or self.log_uniform or self.integer or self.log_integer or (0, 0)
        return low, high

    @property
    def names(self) -> list[str]:
        """The choices, each as JSON."""
        return [json.dumps(value, sort_keys=True) for value in self.choice or ()]

    def ends(self) -> list[Any]:
        """Every choice, or the two ends: what is fine there is taken to be fine in between."""
        return self.names if self.choice is not None else list(self.bounds)

    def plain(self, value: Any) -> Any:
        """What a point's value stands for."""
        return value if self.choice is None else json.loads(value)

    def draw(self, chance: random.Random) -> Any:
        """A value drawn by chance."""
        if self.choice is not None:
            return chance.choice(self.names)
        low, high = self.bounds
        if not self.is_log:
            return chance.randint(int(low), int(high)) if self.is_whole else chance.uniform(low, high)
        if self.is_whole:
            return min(int(exp(chance.uniform(log(low), log(high + 1)))), int(high))
        return exp(chance.uniform(log(low), log(high)))
