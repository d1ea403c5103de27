"""Effects while the best experts so far are held back as well: what another expert takes over shows only then.

All candidates are measured twice more, with half of a set of experts held back throughout, then with the whole of it.
The set grows among positive effects, best first, until the loss of the answers to harmless requests rises too far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import SCORES, Config
from moe_safety.effects.table import against_control, merge
from moe_safety.effects.trials import TRIALS_SCHEMA, items_of
from moe_safety.errors import InputError
from moe_safety.jobs import Job, Parts, Plan, pack, run_job
from moe_safety.models import MoELayout
from moe_safety.rundir import RunDir

COLUMN = "effect_conditional"
RISE = 0.1
"""Nats by which the loss of harmless answers may rise."""
SIZES = 16
"""Sizes of a set that are tried, at most."""
PARTS = (0.5, 1.0)
"""Of that set, what is held back in each pass."""

LossesOf = Callable[[int, list[list[int]]], np.ndarray]
"""In a pass, the loss of harmless answers with each of these sets of places held back."""


def is_wanted(config: Config) -> bool:
    """Whether what is ranked by reads it."""
    return COLUMN in SCORES.get(config.identify.ranked_by).columns


def conditional(passes: Sequence[pa.Table]) -> np.ndarray:
    """The mean over passes, for every place; an expert that is held back throughout keeps what it had before."""
    values = np.stack([against_control(table) for table in passes])
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)


def conditional_passes(
    alone: pa.Table, candidates: list[int], losses_of: LossesOf, measure: Callable[[int, list[int]], pa.Table]
) -> list[pa.Table]:
    """All passes, the one `alone` first. A pass has a number, and `measure` makes its table with the places that are
    held back in it."""
    passes = [alone]
    for number, part in enumerate(PARTS, start=1):
        order = _guilty(conditional(passes), candidates)
        together = _bearable(order, partial(losses_of, number)) if order else 0
        passes.append(measure(number, order[: max(1, round(part * together))] if together else []))
    return passes


def _guilty(effects: np.ndarray, candidates: list[int]) -> list[int]:
    """The candidates of positive effect, best first."""
    positive = [place for place in candidates if effects[place] > 0]
    return sorted(positive, key=lambda place: (-effects[place], place))[: len(candidates) - 1]


def _bearable(order: list[int], losses_of: Callable[[list[list[int]]], np.ndarray]) -> int:
    """How many of the best can be held back together before harmless requests are answered too badly."""
    sizes = np.unique(np.geomspace(1, len(order), SIZES).round().astype(int)).tolist()
    losses = losses_of([order[:size] for size in (0, *sizes)])
    borne = np.cumprod(losses[1:] - losses[0] <= RISE).sum()
    return sizes[borne - 1] if borne else 0


def measure_held(
    config: Config, run: RunDir, identity: str, trials: pa.Table, candidates: list[int], alone: pa.Table
) -> list[str]:
    """Measures every pass after the one `alone`, and returns the tables, a row per prompt each."""
    from moe_safety.models.io import check_loadable

    layout = check_loadable(config.model)

    def measure(number: int, held: list[int]) -> pa.Table:
        pieces = _held_pieces(config, run, f"{identity} {held}", trials, candidates, held, number)
        run.write_table(_held_table(number), found := merge(pieces, layout))
        return found

    losses_of = partial(_harmless_losses, config, run, identity, trials)
    passes = conditional_passes(alone, candidates, losses_of, measure)
    return [_held_table(number) for number in range(1, len(passes))]


def _held_table(number: int) -> str:
    return f"effects/held_{number}.parquet"


def _held_pieces(
    config: Config,
    run: RunDir,
    identity: str,
    trials: pa.Table,
    candidates: list[int],
    held: list[int],
    number: int,
) -> pa.Table:
    """The effects of all other candidates while these are held back."""
    from moe_safety.effects.measurer import build_measurer, trials_of

    plan = Plan(run, f"plans/effects_held_{number}.parquet")
    if not plan.stands(identity):
        others = [place for place in candidates if place not in held]
        items = list(items_of(trials, others, config.effects.max_tokens_per_forward))
        plan.write(items, items[0].schema, identity)
    parts = Parts(run, f"effects/_held_{number}", plan)
    longest = max(trials_of(trials), key=lambda trial: trial.length)
    run_job(Job(plan, parts, partial(build_measurer, config.model, config.effects, longest, held), config.effects))
    return pa.concat_tables(parts.tables())


def _harmless_losses(
    config: Config, run: RunDir, identity: str, trials: pa.Table, number: int, sets: list[list[int]]
) -> np.ndarray:
    """The mean loss of the answers to control prompts, with each of these sets held back."""
    from moe_safety.effects.measurer import build_harmless, trials_of

    harmless = trials.filter(pc.equal(trials["label"], "control"))
    if not len(harmless):
        raise InputError(f"{COLUMN} needs control prompts in the batches", key="identify.score")
    plan = Plan(run, f"plans/effects_harmless_{number}.parquet")
    if not plan.stands(f"{identity} {sets[-1]}"):
        lengths = [2 * trial.length for trial in trials_of(harmless)]
        groups = sorted(sorted(group) for group in pack(lengths, config.effects.max_tokens_per_forward))
        plan.write((harmless.take(pa.array(group)) for group in groups), TRIALS_SCHEMA, f"{identity} {sets[-1]}")
    parts = Parts(run, f"effects/_harmless_{number}", plan)
    run_job(Job(plan, parts, partial(build_harmless, config.model, config.effects, sets), config.effects))
    return mean_losses(parts.tables())


def mean_losses(parts: Iterable[pa.Table]) -> np.ndarray:
    """The mean over prompts for each set of experts that was held back."""
    return np.array(pa.concat_tables(parts)["losses"].to_pylist()).mean(axis=0)


def with_conditional(table: pa.Table, passes: Sequence[pa.Table], layout: MoELayout) -> pa.Table:
    """The table of experts with the mean over passes as a column more."""
    places = [layout.position(layer) * layout.max_experts + expert for layer, expert in layout.experts()]
    return table.append_column(COLUMN, pa.array(conditional(passes)[places], pa.float64(), from_pandas=True))
