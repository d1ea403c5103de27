"""Scores from gradients: how much each expert would have to change for the attack to be refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moe_safety.gradients.table import fold
from moe_safety.pipeline import EXPERT_GRADIENTS
from moe_safety.routing.table import layout_of
from moe_safety.rundir import RunDir, summary_of
from moe_safety.scores.score import Reads

if TYPE_CHECKING:
    from moe_safety.config import Config

SIGN = "more is guiltier: the more of it, the more its parameters would have to change for the attack to be refused"
UNIT = "nats by unit of a parameter"


def _settings(config: Config) -> dict[str, Any]:
    from moe_safety.gradients.gradients import settings_of

    return settings_of(config)


def _collected(run: RunDir) -> list[pa.Table]:
    return [pa.concat_tables([run.read_table(name) for name in summary_of(run, "gradients")["files"]])]


def _fold(tables: Sequence[pa.Table]) -> pa.Table | None:
    (batches,) = tables
    return fold(tables, layout_of(batches.schema)) if len(batches) else None


GRADIENTS = Reads("gradients", EXPERT_GRADIENTS, _settings, _collected, _fold)
