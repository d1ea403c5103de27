"""What declares a score: its words, what it reads, and its formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from moe_safety.config import Config, Section
    from moe_safety.rundir import RunDir

Tables = Sequence["pa.Table"]


@dataclass(frozen=True)
class Reads:
    """The table of a method, with a row per expert, and the stage that collects what it is made from."""

    stage: str
    table: str
    settings: Callable[[Config], dict[str, Any]]
    """What of the configuration decides what the stage leaves."""
    collected: Callable[[RunDir], Tables] | None = None
    """What the stage left of every batch (`batch_idx`) or prompt (`prompt_id`)."""
    fold: Callable[[Tables], pa.Table | None] | None = None
    """From any part of that to a table as the method's; nothing where the part tells nothing."""


def column(name: str) -> Callable[[pd.DataFrame], np.ndarray]:
    """The formula of a score that stands in a column of the table it reads."""
    return lambda table: table[name].to_numpy(float)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score of every expert. More is guiltier: the best are those of the highest score."""

    name: str
    method: str
    """Which offers it, as `identify.method` names it."""
    title: str
    """On pictures."""
    definition: str
    """The same at length."""
    heading: str
    """Over a column of its values."""
    unit: str
    sign: str
    """What more and less of it mean."""
    reads: Reads
    formula: Callable[..., np.ndarray]
    """From the table that it reads to a value for each row; where it takes settings, they come as `settings`."""
    columns: tuple[str, ...] = ()
    """Of that table: what the formula reads."""
    interval: tuple[str, str] | None = None
    """The columns of its 95 % interval."""
    form: str = "+.4f"
    """Of a number."""
    default: bool = False
    """Whether it is its method's first choice."""
    lowest: float | Literal["threshold"] | None = None
    """What a selected expert lies above, unless `identify.min_score` is higher, or always `identify.threshold`."""
    section: type[Section] | None = None
    """The class of its own settings, those of `scores.NAME`."""

    def of_table(self, table: pd.DataFrame) -> np.ndarray:
        """A value for each row of its method's table."""
        return self.formula(table)

    def with_settings(self, settings: Any) -> Self:
        """The score with its settings put into the formula."""
        return self if settings is None else replace(self, formula=partial(self.formula, settings=settings))
