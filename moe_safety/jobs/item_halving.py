"""A work item that does not fit the memory is halved, and its halves again where they do not fit either.

Where it was cut is kept beside the parts, so that whoever makes the part again cuts it in the same places, however much
memory there is by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch

from moe_safety.errors import InputError, RunError
from moe_safety.jobs.job import Handler, InTurn, Joining
from moe_safety.jobs.memory import is_out_of_memory
from moe_safety.jobs.parts import Part, Parts


def made_of(
    parts: Parts, items: Sequence[int], handler: Handler, rows: Sequence[pa.Table], notes: Sequence[dict[str, Any]]
) -> Iterator[Part]:
    """Each item's part. Several are made at once, or each while the one before is, where the handler can and they fit
    the memory so; where one was halved before, each is made by itself."""
    own = [Halving(parts, item, handler, noted) for item, noted in zip(items, notes, strict=True)]
    made, too_large = 0, False
    if len(items) > 1 and not any(one.cut for one in own):
        try:
            for part in _of_several(handler, rows):
                yield part
                made += 1
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            too_large = True
        if too_large:
            _free_memory()
    for one, these in zip(own[made:], rows[made:], strict=True):
        yield one(these)


def _of_several(handler: Handler, rows: Sequence[pa.Table]) -> Iterable[Part]:
    if isinstance(handler, InTurn):
        return handler.in_turn(rows)
    return (handler.together(rows) if isinstance(handler, Joining) else None) or ()


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Halving:
    """One item's way through a handler. A piece is named by the turns that lead to it: "" is the item, "01" the second
    half of its first half."""

    def __init__(self, parts: Parts, item: int, handler: Handler, notes: dict[str, Any]) -> None:
        self.run, self.handler, self.notes = parts.run, handler, notes
        self.file, self.key = f"{parts.folder}/_halved/part-{item:06d}.json", parts.plan.keys[item]
        self.cut = self._known()

    def __call__(self, rows: pa.Table, piece: str = "") -> Part:
        if piece not in self.cut:
            try:
                return self.handler(rows, self.notes)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if not self.handler.divisible or len(rows) < 2:
                    raise RunError(f"out of memory on one work item of {len(rows)} rows: {error}") from error
            # Out of the handler's frame, so that what it held is freed first.
            _free_memory()
            self.cut.append(piece)
            self.run.write_json(self.file, {"key": self.key, "cut": self.cut})
        self.notes["halved"] = self.notes.get("halved", 0) + 1
        middle = len(rows) // 2
        return _joined(self(rows.slice(0, middle), f"{piece}0"), self(rows.slice(middle), f"{piece}1"))

    def _known(self) -> list[str]:
        """Where the very same item was cut before."""
        if not self.run.exists(self.file):
            return []
        try:
            kept = self.run.read_json(self.file)
        except InputError:
            return []
        return list(kept["cut"]) if kept["key"] == self.key else []


def _joined(first: Part, second: Part) -> Part:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return tuple(pa.concat_tables(pair) for pair in zip(first, second, strict=True))
    return pa.concat_tables([first, second])
