"""Mixed batches: which prompts stand together, in which order, for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import pyarrow as pa

from moe_safety.batches.encoded import ENCODED
from moe_safety.batches.targets import refusal
from moe_safety.config import BatchesConfig
from moe_safety.errors import InputError
from moe_safety.inputs.table import MESSAGES, group_of

BATCHES_SCHEMA = pa.schema(
    [
        ("batch_idx", pa.int32()),
        ("in_batch_idx", pa.int32()),
        ("prompt_id", pa.string()),
        ("label", pa.string()),
        ("messages", MESSAGES),
        ("answer", pa.string()),
        ("answer_ended", pa.bool_()),
        ("target", pa.string()),
        ("target_ended", pa.bool_()),
        *ENCODED,
    ]
)
_COPIED = [name for name in BATCHES_SCHEMA.names if name not in ("batch_idx", "in_batch_idx")]

TableRow = Mapping[str, Any]


@dataclass(frozen=True)
class PromptPair:
    """An attack prompt and the plain form of its goal."""

    safe: TableRow
    unsafe: TableRow

    def group(self, name: str) -> str:
        """What the attack's row has in this column, or its plain form's; empty where neither has it."""
        return group_of(self.unsafe, name) or group_of(self.safe, name) or ""


@dataclass
class Composed:
    """The mixed batches, and what fills none."""

    batches: list[list[TableRow]]
    leftover: dict[str, int] = field(default_factory=dict)
    """Rows that fill no batch, by label."""
    reused: dict[str, int] = field(default_factory=dict)
    """Benign and control rows that stand in more than one batch, because there are too few."""
    partial: int = 0
    """Batches with fewer pairs than the others."""

    def table(self) -> pa.Table:
        """The rows of all batches as one table, with their places."""
        rows = [
            {name: row[name] for name in _COPIED} | {"batch_idx": batch_idx, "in_batch_idx": place}
            for batch_idx, batch in enumerate(self.batches)
            for place, row in enumerate(batch)
        ]
        return pa.Table.from_pylist(rows, schema=BATCHES_SCHEMA)


def make_pairs(rows: Iterable[TableRow], seed: int) -> list[PromptPair]:
    """Every attack prompt with its plain form, in file order, both with a refusal for their target."""
    rows = list(rows)
    plain = {row["goal_id"]: row for row in rows if row["label"] == "safe"}
    pairs = []
    for row in rows:
        safe = plain.get(row["goal_id"])
        if row["label"] == "unsafe" and safe is not None:
            target = _refusal(safe, seed)
            pairs.append(PromptPair({**safe, **target}, {**row, **target}))
    return pairs


def _refusal(safe: TableRow, seed: int) -> dict[str, Any]:
    """The model's own refusal of the plain goal, as it said it and as far as it came, or a template."""
    if safe["verdict"] == "refused" and safe["answer"]:
        return {"target": safe["answer"], "target_ended": safe["answer_ended"], "target_said": safe["answer_said"]}
    return {"target": refusal(safe["goal_id"], None, seed), "target_ended": True, "target_said": None}


def helpful(rows: Iterable[TableRow], label: str) -> list[TableRow]:
    """The benign or control rows that have a helpful answer to learn: the file's, else the model's own."""
    found = ({**row, **_help(row)} for row in rows if row["label"] == label)
    return [row for row in found if row["target"]]


def _help(row: TableRow) -> dict[str, Any]:
    if row["target"] and row["target"] != row["answer"]:
        return {"target": row["target"], "target_ended": row["target_ended"], "target_said": None}
    return {"target": row["answer"], "target_ended": row["answer_ended"], "target_said": row["answer_said"]}


def fill(
    pairs: Sequence[PromptPair], benign: Sequence[TableRow], control: Sequence[TableRow], config: BatchesConfig
) -> Composed:
    """Fills batches in file order. Each takes as many pairs as the larger of its two sides needs; the further pairs
    of the smaller side give only their other form."""
    window = max(config.safe_per_batch, config.unsafe_per_batch)
    groups = _grouped(pairs, config.group_by) if config.group_by else [list(pairs)]
    windows = [group[start : start + window] for group in groups for start in range(0, len(group), window)]
    if config.partial == "drop":
        windows = [pairs_here for pairs_here in windows if len(pairs_here) == window]
    if not windows:
        place = f" of one {config.group_by}" if config.group_by else ""
        raise InputError(
            f"{len(pairs)} pairs{place} do not fill one batch, which takes {window}", key="batches.batch_size"
        )
    wanted = config.num_batches or len(windows)
    if wanted > len(windows):
        raise InputError(
            f"{wanted} batches are asked for, and {len(pairs)} pairs fill {len(windows)}", key="batches.num_batches"
        )
    on_top = {"benign": _Dealer(benign, "benign", config), "control": _Dealer(control, "control", config)}
    batches: list[list[TableRow]] = []
    for pairs_here in windows[:wanted]:
        # A smaller batch keeps the ratio of its sides, as far as whole rows can.
        share = len(pairs_here) / window
        safe = [pair.safe for pair in pairs_here[: round(config.safe_per_batch * share)]]
        unsafe = [pair.unsafe for pair in pairs_here[: max(1, round(config.unsafe_per_batch * share))]]
        batches.append(safe + unsafe + [row for dealer in on_top.values() for row in dealer.next_batch()])
    composed = Composed(batches, partial=sum(len(pairs_here) < window for pairs_here in windows[:wanted]))
    composed.leftover = {"pairs": len(pairs) - sum(map(len, windows[:wanted]))}
    for label, dealer in on_top.items():
        composed.leftover[label] = max(0, len(dealer.rows) - dealer.per_batch * wanted)
        composed.reused[label] = max(0, dealer.per_batch * wanted - len(dealer.rows))
    return composed


def _grouped(pairs: Sequence[PromptPair], name: str) -> list[list[PromptPair]]:
    """In the order in which their first pairs come."""
    groups: dict[str, list[PromptPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group(name), []).append(pair)
    if name != "category" and [*groups] == [""]:
        if not any("columns" in pair.unsafe for pair in pairs):
            told = "`prepare` was run by a version that kept no columns of files; run it again with --force"
            raise InputError(told, key="batches.group_by")
        known = sorted({column for pair in pairs for column, _ in pair.unsafe.get("columns") or ()})
        told = f"no attack has a column '{name}'; there are {', '.join(['category', 'attack', 'source', *known])}"
        raise InputError(told, key="batches.group_by")
    return list(groups.values())


class _Dealer:
    """Deals rows to batches in file order, and from the start again when they run out."""

    def __init__(self, rows: Sequence[TableRow], label: str, config: BatchesConfig) -> None:
        self.rows, self.per_batch = rows, getattr(config, f"{label}_per_batch")
        if self.per_batch > len(rows):
            raise InputError(f"{len(rows)} {label} prompts do not fill one batch", key=f"batches.{label}_per_batch")
        self.deal = cycle(rows)

    def next_batch(self) -> list[TableRow]:
        return list(islice(self.deal, self.per_batch))
