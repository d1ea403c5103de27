"""`delta extract`: writes the bits in which a tuned checkpoint differs from its base."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from moe_safety.checkpoints.examine import Both, Examination, open_both
from moe_safety.checkpoints.verify import Report, judge
from moe_safety.errors import RunError
from moe_safety.models.stored import KIND, Stored, flip
from moe_safety.rundir import in_threads, place_of, spent


@spent("comparing")
def extract_delta(base: str | Path, tuned: str | Path, out: str | Path, *, trust_remote_code: bool = False) -> Report:
    """Writes what changed from one checkpoint folder to another, unless more than experts and routers did."""
    return write_delta(open_both(base, tuned, trust_remote_code=trust_remote_code), tuned, out)


def write_delta(both: Both, tuned: str | Path, out: str | Path) -> Report:
    """The same of two that are opened; `tuned` is what an error calls the second."""
    found = both.examine()
    report = judge(found, both.layout.experts(), routers_allowed=True)
    if report.violations:
        first, others = report.violations[0], len(report.violations) - 1
        more = f"; and {others} more" if others else ""
        raise RunError(f"{tuned}: a delta holds experts and routers, and more changed: {first}{more}")
    run, name = place_of(str(out))
    with run.writing(name) as path:
        _write(Path(path), found, report)
    return report


@dataclass(frozen=True)
class _Part:
    """One tensor of the file."""

    name: str
    rows: list[int] | None
    base: Sequence[Stored]
    """The blocks that changed, in both checkpoints."""
    tuned: Sequence[Stored]

    @property
    def size(self) -> int:
        return sum(block.size for block in self.base)

    def header(self, start: int) -> dict[str, object]:
        first = self.base[0]
        shape = first.shape if self.rows is None else (len(self.rows), *first.shape[1:])
        return {"dtype": f"U{8 * first.width}", "shape": shape, "data_offsets": [start, start + self.size]}

    def chunks(self) -> Iterator[bytes]:
        for one, other in zip(self.base, self.tuned, strict=True):
            for here, there in zip(one.chunks(), other.chunks(), strict=True):
                yield flip(here, there)


def _parts(found: Examination) -> list[_Part]:
    """What changed, wide values first, so that each tensor stands at a multiple of its values' width."""
    parts = []
    for name, change in found.comparison.changes.items():
        blocks, changed = found.owners.blocks(name), sorted(change)
        base, tuned = ([side.tensors[name].block(i, blocks) for i in changed] for side in (found.base, found.tuned))
        parts.append(_Part(name, changed if blocks > 1 else None, base, tuned))
    return sorted(parts, key=lambda part: (-part.base[0].width, part.name))


def _write(path: Path, found: Examination, report: Report) -> None:
    # By hand, because the library wants all of it in memory at once.
    parts = _parts(found)
    metadata = {
        "kind": KIND,
        "base": report.base,
        "tuned": report.tuned,
        "experts": json.dumps(report.experts),
        "routers": json.dumps(report.routers),
        "rows": json.dumps({part.name: part.rows for part in parts if part.rows is not None}),
        "left_out": json.dumps(report.left_out),
    }
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for part in parts:
        header[part.name] = part.header(end)
        end += part.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    begins = len(text) + 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(begins + end)

    def fill(part: _Part, start: int) -> None:
        with open(path, "r+b") as file:
            file.seek(begins + start)
            for chunk in part.chunks():
                file.write(chunk)

    starts = accumulate((part.size for part in parts), initial=0)
    in_threads(lambda each: fill(*each), zip(parts, starts, strict=False))
