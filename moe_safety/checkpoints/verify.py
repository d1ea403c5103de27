"""`verify`: nothing but the selected experts, and the routers where they may train, differs by a single bit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moe_safety.checkpoints.examine import Examination, open_both
from moe_safety.errors import InputError
from moe_safety.models.stored import Stored
from moe_safety.models.stored.owners import Expert
from moe_safety.rundir import spent


@dataclass(frozen=True)
class Violation:
    """A difference that should not be."""

    tensor: str
    problem: str

    def __str__(self) -> str:
        return f"{self.tensor}: {self.problem}"


@dataclass(frozen=True)
class Report:
    """What differs between two checkpoints."""

    base: str
    """The checkpoints' digests, which say exactly what was compared."""
    tuned: str
    parameters: int
    """How many values the base holds."""
    changed: int
    """How many of them have other bits in the tuned one."""
    experts: list[Expert]
    """Those that changed."""
    routers: list[int]
    """The layers whose routers changed."""
    violations: list[Violation]
    left_out: list[str]
    """Tensors that the base holds alone, because the model does not load them or has them from others; saving it
    leaves them out."""

    @property
    def changed_ratio(self) -> float:
        """The share of all values that changed."""
        return self.changed / self.parameters

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self) | {"changed_ratio": self.changed_ratio}


@spent("comparing")
def verify(
    base: str | Path,
    tuned: str | Path,
    allowed_experts: Iterable[Expert],
    routers_allowed: bool = False,
    *,
    parameters: Collection[str] = (),
    trust_remote_code: bool = False,
) -> Report:
    """Compares two checkpoint folders, or a base and the delta that makes the tuned one of it, reading a few megabytes
    at a time; the report lists what may not differ. `parameters` are others that may, by the model's own names."""
    allowed = {(int(layer), int(expert)) for layer, expert in allowed_experts}
    both = open_both(base, tuned, trust_remote_code=trust_remote_code)
    for layer, expert in sorted(allowed.difference(both.layout.experts())):
        raise InputError(f"the model has no expert {expert} in layer {layer}", file=base)
    return judge(both.examine(), allowed, routers_allowed, parameters)


def judge(
    found: Examination, allowed: Collection[Expert], routers_allowed: bool, parameters: Collection[str] = ()
) -> Report:
    """What of the differences may be, and what may not."""
    changes, owners = found.comparison.changes, found.owners
    experts = {owners.expert(name, block) for name, change in changes.items() for block in change}
    return Report(
        base=found.base_digest,
        tuned=found.tuned_digest,
        parameters=sum(tensor.count for tensor in found.base.tensors.values()),
        changed=sum(sum(change.values()) for change in changes.values()),
        experts=sorted(expert for expert in experts if expert),
        routers=sorted({owners.routers[name] for name in changes if name in owners.routers}),
        violations=[*_of_tensors(found), *_of_values(found, allowed, routers_allowed, parameters)],
        left_out=sorted(found.left_out),
    )


def _of_tensors(found: Examination) -> Iterator[Violation]:
    """Tensors that are not in both, or not of one type and shape."""
    base, tuned = found.base.tensors, found.tuned.tensors
    for name in sorted((base.keys() | tuned.keys()) - found.left_out):
        if name not in tuned:
            yield Violation(name, "is missing")
        elif name not in base:
            yield Violation(name, "is not in the base")
        elif base[name].form != tuned[name].form:
            yield Violation(name, f"is {_form(tuned[name])}, in the base {_form(base[name])}")


def _of_values(
    found: Examination, allowed: Collection[Expert], routers_allowed: bool, parameters: Collection[str]
) -> Iterator[Violation]:
    """Values that differ where none may."""
    owners = found.owners
    for name, change in found.comparison.changes.items():
        if owners.names[name] in parameters:
            continue
        size = found.base.tensors[name].count // owners.blocks(name)
        for block, values in sorted(change.items()):
            differ = f"{values:,} of {size:,} values differ"
            if expert := owners.expert(name, block):
                if expert not in allowed:
                    layer, number = expert
                    yield Violation(name, f"L{layer:02d}_E{number:02d} is not selected, {differ}")
            elif name in owners.routers and not routers_allowed:
                yield Violation(name, f"router of layer {owners.routers[name]}, {differ}")
            elif name not in owners.routers:
                yield Violation(name, differ)


def _form(tensor: Stored) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
