"""The effect of holding an expert back, the mean of that alone and of those with the best others held back too; on
unsafe prompts, less that on control prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from moe_safety.config import SCORES
from moe_safety.effects.conditional import COLUMN, with_conditional
from moe_safety.routing.table import layout_of
from moe_safety.rundir import RunDir, summary_of
from moe_safety.scores.causal import EFFECTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

if TYPE_CHECKING:
    import pyarrow as pa


def _collected(run: RunDir) -> list[pa.Table]:
    assert EFFECTS.collected
    return [*EFFECTS.collected(run), *map(run.read_table, summary_of(run, "effects")["held"])]


def _fold(tables: Sequence[pa.Table]) -> pa.Table | None:
    assert EFFECTS.fold
    measured, foreseen, *held = tables
    table = EFFECTS.fold([measured, foreseen])
    return None if table is None else with_conditional(table, [measured, *held], layout_of(measured.schema))


EFFECT_CONDITIONAL = SCORES.add(
    Score(
        name=COLUMN,
        method="causal",
        title="Effect of holding the expert back, conditional",
        definition="Effect of holding the expert back on the refusal margin after attacks, the mean of the effect alone"
        " and of those with the best other experts held back as well",
        heading="Effect (conditional)",
        unit=UNIT,
        sign=SIGN,
        reads=replace(EFFECTS, collected=_collected, fold=_fold),
        formula=column(COLUMN),
        columns=(COLUMN,),
        lowest=0.0,
    )
)
