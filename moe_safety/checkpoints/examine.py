"""A base and a tuned checkpoint of one model, compared, with the owner of every difference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_safety.checkpoints.compare import Comparison, checkpoint_digest, compare
from moe_safety.checkpoints.folder import Checkpoint, open_checkpoint
from moe_safety.checkpoints.owners import Owners, find_owners
from moe_safety.checkpoints.quantised import dequantised
from moe_safety.errors import InputError
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.io.skeleton import build_skeleton, read_config
from moe_safety.models.library_logging import quiet


@dataclass(frozen=True)
class Both:
    """Two checkpoints of one model, of which nothing but headers has been read."""

    layout: MoELayout
    base: Checkpoint
    tuned: Checkpoint
    owners: Owners
    """Of the base's tensors."""

    def examine(self) -> Examination:
        """Reads both once, a few megabytes at a time."""
        comparison = compare(self.base, self.tuned, self.owners.blocks)
        contents = comparison.base
        stored_twice = {name for name, source in self.owners.ties.items() if contents[name] == contents[source]}
        left_out = (self.base.tensors.keys() - self.tuned.tensors.keys()) & (self.owners.unread | stored_twice)
        return Examination(self.base, self.tuned, self.owners, comparison, frozenset(left_out))


@dataclass(frozen=True)
class Examination:
    """What differs between two checkpoints, in which experts and routers; nothing is judged yet."""

    base: Checkpoint
    tuned: Checkpoint
    owners: Owners
    comparison: Comparison
    left_out: frozenset[str]
    """Tensors that the base holds alone, because the model does not load them or has them from others; saving it
    leaves them out."""

    @property
    def base_digest(self) -> str:
        """The digest of the base checkpoint's contents."""
        return checkpoint_digest(self.base, self.comparison.base, self.left_out)

    @property
    def tuned_digest(self) -> str:
        """The digest of the tuned checkpoint's contents."""
        return checkpoint_digest(self.tuned, self.comparison.tuned, self.left_out)


def open_both(base: str | Path, tuned: str | Path, *, trust_remote_code: bool = False) -> Both:
    """Opens two folders, and finds out which tensors belong to which expert."""
    quiet()
    one, other = open_checkpoint(base), open_checkpoint(tuned)
    model, tuned_model = (build_skeleton(str(each), trust_remote_code=trust_remote_code) for each in (base, tuned))
    layout = inspect_model(model)
    if inspect_model(tuned_model).fingerprint() != layout.fingerprint():
        raise InputError(f"is not a checkpoint of the model in {base}", file=tuned)
    one, other = dequantised(one, model.config, other), dequantised(other, tuned_model.config, one)
    owners = find_owners(model, layout, {name: tensor.shape for name, tensor in one.tensors.items()})
    return Both(layout, one, other, owners)


def stored_alike(base: str | Path, tuned: str | Path, *, trust_remote_code: bool = False) -> bool:
    """Whether every tensor of both has one type in them: a base may be stored in other types than it is loaded in."""
    both = open_both(base, tuned, trust_remote_code=trust_remote_code)
    shared = both.base.tensors.keys() & both.tuned.tensors.keys()
    return all(both.base.tensors[name].dtype == both.tuned.tensors[name].dtype for name in shared)


def check_comparable(base: str | Path, *, trust_remote_code: bool = False) -> None:
    """Refuses, before anything is trained, a base whose tuned copy could not be compared with it; reads headers."""
    checkpoint = open_checkpoint(base)
    dequantised(checkpoint, read_config(str(base), trust_remote_code=trust_remote_code), checkpoint)
