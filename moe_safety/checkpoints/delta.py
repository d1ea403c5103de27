"""A delta: the bits in which a tuned checkpoint differs from its base, as a safetensors file.

Each tensor is the exclusive or of two bit patterns, so that applying it once gives the tuned checkpoint and applying it
again gives the base. Where a tensor holds many experts, only the rows of those that changed are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_safety.checkpoints.examine import Examination, open_both
from moe_safety.checkpoints.folder import Stored, open_file
from moe_safety.checkpoints.verify import Report, judge
from moe_safety.errors import InputError, RunError
from moe_safety.rundir import RunDir

_KIND = "moe-safety delta 1"


@dataclass(frozen=True)
class Delta:
    """What a delta file says."""

    file: Path
    tensors: Mapping[str, Stored]
    """By the name of the tensor that changed."""
    rows: Mapping[str, list[int]]
    """Where a tensor holds many experts, the rows that changed; other tensors are there whole."""
    base: str
    """The digests of the two checkpoints that it stands between."""
    tuned: str
    left_out: frozenset[str]
    """Tensors that the digests leave out."""


def extract_delta(base: str | Path, tuned: str | Path, out: str | Path, *, trust_remote_code: bool = False) -> Report:
    """Writes what changed from one checkpoint folder to another, unless more than experts and routers did."""
    both = open_both(base, tuned, trust_remote_code=trust_remote_code)
    found = both.examine()
    report = judge(found, both.layout.experts(), routers_allowed=True)
    if report.violations:
        first, others = report.violations[0], len(report.violations) - 1
        more = f"; and {others} more" if others else ""
        raise RunError(f"{tuned}: a delta holds experts and routers, and more changed: {first}{more}")
    folder, slash, name = str(out).rpartition("/")
    with RunDir(folder + slash or ".").writing(name) as path:
        _write(Path(path), found, report)
    return report


def read_delta(file: str | Path) -> Delta:
    """The delta in `file`, its bits still unread."""
    file = Path(file)
    tensors, metadata = open_file(file)
    try:
        if metadata["kind"] != _KIND:
            raise KeyError("kind")
        rows = {str(name): [int(row) for row in its] for name, its in json.loads(metadata["rows"]).items()}
        left_out = frozenset(json.loads(metadata["left_out"]))
        return Delta(file, tensors, rows, metadata["base"], metadata["tuned"], left_out)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InputError("is not a delta", file=file) from None


def flip(one: bytes, other: bytes) -> bytes:
    """The exclusive or of two runs of bytes."""
    return np.bitwise_xor(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)).tobytes()


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
        "kind": _KIND,
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
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            for chunk in part.chunks():
                file.write(chunk)
