"""Work items for engines: prompts to answer and, beside them, whatever else is asked of the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import ENGINES
from moe_safety.generation.answers import TOKENS, answers_table, pack_prompts
from moe_safety.generation.engine import Ability, Engine, Opening
from moe_safety.jobs import Parts, Plan
from moe_safety.models.io import delta_file
from moe_safety.models.text import Answer

ANSWERS = "answers"
"""The kind of items whose prompts are answered."""
REFERENCE = "transformers"
"""The engine that stands in for others in all that is no answer."""

PLAN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("prompt_id", pa.string()),
        ("tokens", TOKENS),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
        ("prefix", TOKENS),
        ("answer", TOKENS),
    ]
)
"""All rows of an item are of one kind. `temperature` and `seed` stand where the prompt, whose `tokens` these are, is to
be answered; `answer` is a given one, and `prefix` what stands between it and the prompt."""

TableRow = Mapping[str, Any]


def make_item(kind: str, rows: Iterable[TableRow]) -> pa.Table:
    """An item of these rows. What a row does not say is empty in it."""
    known: dict[str, Any] = {"kind": kind, "tokens": [], "prefix": [], "answer": []}
    told = [{name: row.get(name, known.get(name)) for name in PLAN_SCHEMA.names} for row in rows]
    return pa.Table.from_pylist(told, schema=PLAN_SCHEMA)


def items_to_answer(kind: str, rows: Sequence[TableRow], opening: Opening, budget: int) -> Iterator[pa.Table]:
    """Items of prompts to answer, each with its temperature and seed: those of like length stand together, at most as
    many as the engine is given, and `budget` of their tokens, what may be said included. Small ones, so that a job is
    work for many replicas; `at_once` lets one with room take several."""
    limit = opening.limits.answer
    sizes = [len(row["tokens"]) + max(limit, len(row.get("answer", ()))) for row in rows]
    for group in pack_prompts(sizes, budget, ENGINES.get(opening.engine).prompts_per_item):
        yield make_item(kind, [rows[place] for place in group.tolist()])


def at_once(plan: Plan, opening: Opening, item: int) -> int:
    """How many items like this one a replica takes at once: of those to answer, as many as their prompts fill its
    engine."""
    if opening.at_once < 2 or (rows := plan.rows(item))["kind"][0].as_py() != ANSWERS:
        return 1
    return max(1, opening.at_once // len(rows))


def items_of(plan: Plan, kind: str) -> list[int]:
    """The items of one kind, in order."""
    return [number for number in range(len(plan)) if plan.rows(number)["kind"][0].as_py() == kind]


def tables_of(parts: Parts, kind: str) -> Iterator[pa.Table]:
    """The parts of these items."""
    return (parts.run.read_table(parts.table_name(number)) for number in items_of(parts.plan, kind))


def answer_prompts(engine: Engine, rows: pa.Table) -> list[Answer]:
    """The engine's answers to an item's prompts."""
    return engine.answer(rows["tokens"].to_pylist(), rows["temperature"].to_pylist(), rows["seed"].to_pylist())


def given_answers(rows: pa.Table) -> tuple[list[list[int]], list[list[int]]]:
    """The answers that an item gives, behind all that stands before each."""
    before = zip(rows["tokens"].to_pylist(), rows["prefix"].to_pylist(), strict=True)
    return [[*prompt, *prefix] for prompt, prefix in before], rows["answer"].to_pylist()


@dataclass(frozen=True)
class Kind:
    """A kind of item."""

    do: Callable[[Engine, pa.Table], pa.Table]
    """Makes an item's part."""
    needs: Ability | None = None
    """What it asks of an engine. Where the one that answers cannot do that, the reference engine does it."""


def _answered(engine: Engine, rows: pa.Table) -> pa.Table:
    return answers_table(engine.chat, rows["prompt_id"].to_pylist(), answer_prompts(engine, rows))


@dataclass
class ItemHandler:
    """Handles an item, of whatever kind it is, or several to answer; all are done on one loaded model, as far as the
    engine can."""

    opening: Opening
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Further ones than answers."""
    avoided: Sequence[tuple[int, int]] = ()
    """Experts that tokens are kept away from."""
    divisible: bool = True

    def __post_init__(self) -> None:
        self.kinds = {ANSWERS: Kind(_answered), **self.kinds}
        self.engine: Engine | None = self.opening.open(self.opening.engine)

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        kind = self.kinds[rows["kind"][0].as_py()]
        with self._ready(kind) as engine:
            return kind.do(engine, rows)

    def together(self, items: Sequence[pa.Table]) -> list[pa.Table] | None:
        """The parts of items to answer, where the engine holds all of their prompts."""
        with self._ready(self.kinds[ANSWERS]) as engine:
            every = pa.concat_tables(items)
            if pc.unique(every["kind"]).to_pylist() != [ANSWERS] or not engine.holds(every["tokens"].to_pylist()):
                return None
            answers = iter(answer_prompts(engine, every))
            ids = (rows["prompt_id"].to_pylist() for rows in items)
            return [answers_table(engine.chat, own, list(islice(answers, len(own)))) for own in ids]

    @contextmanager
    def _ready(self, kind: Kind) -> Iterator[Engine]:
        """The engine for items of this kind, with the delta in its model, and kept away from experts."""
        engine, delta = self._engine(kind), delta_file(self.opening.model)
        with ExitStack() as stack:
            if delta:
                stack.enter_context(engine.swapping(str(delta)))
            if self.avoided:
                stack.enter_context(engine.avoiding(self.avoided))
            yield engine

    def tokens(self, rows: pa.Table) -> int:
        """The most tokens that an item's answers take, prompts included."""
        known = sum(len(row) for name in ("tokens", "prefix", "answer") for row in rows[name].to_pylist())
        asked = len(rows) - rows["temperature"].null_count
        return known + asked * self.opening.limits.answer

    def _engine(self, kind: Kind) -> Engine:
        """The engine for items of this kind; another one's memory is freed first."""
        able = kind.needs is None or kind.needs in ENGINES.get(self.opening.engine).abilities
        name = self.opening.engine if able else REFERENCE
        if self.engine is None or self.engine.name != name:
            self.engine = None
            self.engine = self.opening.open(name)
        return self.engine
