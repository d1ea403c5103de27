"""A base and a tuned checkpoint of one model, compared, with the owner of every difference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moe_safety.checkpoints.compare import Comparison, compare
from moe_safety.errors import InputError
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.io.dequantised import dequantised
from moe_safety.models.io.skeleton import build_skeleton, read_config
from moe_safety.models.library_logging import quiet
from moe_safety.models.stored import Checkpoint, Delta, checkpoint_digest, open_checkpoint, read_delta, with_delta
from moe_safety.models.stored.owners import Owners, find_owners

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Both:
    """Two checkpoints of one model, of which nothing but headers has been read."""

    layout: MoELayout
    base: Checkpoint
    tuned: Checkpoint
    owners: Owners
    """Of the base's tensors."""
    delta: Delta | None = None
    """What makes the tuned one of the base, where that is how it is given."""

    def examine(self) -> Examination:
        """Reads both, a few megabytes at a time."""
        comparison = compare(self.base, self.tuned, self.owners.blocks)
        contents = comparison.base
        stored_twice = {name for name, source in self.owners.ties.items() if contents[name] == contents[source]}
        left_out = (self.base.tensors.keys() - self.tuned.tensors.keys()) & (self.owners.unread | stored_twice)
        found = Examination(self.base, self.tuned, self.owners, comparison, frozenset(left_out))
        if self.delta and found.base_digest != self.delta.base:
            raise InputError(f"is not the checkpoint that {self.delta.file} is for", file=self.base.folder)
        if self.delta and found.tuned_digest != self.delta.tuned:
            raise InputError("is damaged: what it makes is not what it was made from", file=self.delta.file)
        return found


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
    """Opens two folders, and finds out which tensors belong to which expert. The tuned one may be a delta's file."""
    quiet()
    one = open_checkpoint(base)
    model = build_skeleton(str(base), trust_remote_code=trust_remote_code)
    layout = inspect_model(model)
    if Path(tuned).is_file():
        delta = read_delta(tuned)
        one = dequantised(one, model.config, one)
        return Both(layout, one, with_delta(one, delta), _owners(model, layout, one), delta)
    other = open_checkpoint(tuned)
    tuned_model = build_skeleton(str(tuned), trust_remote_code=trust_remote_code)
    if inspect_model(tuned_model).fingerprint() != layout.fingerprint():
        raise InputError(f"is not a checkpoint of the model in {base}", file=tuned)
    one, other = dequantised(one, model.config, other), dequantised(other, tuned_model.config, one)
    return Both(layout, one, other, _owners(model, layout, one))


def _owners(model: PreTrainedModel, layout: MoELayout, base: Checkpoint) -> Owners:
    return find_owners(model, layout, {name: tensor.shape for name, tensor in base.tensors.items()})


def check_comparable(base: str | Path, *, trust_remote_code: bool = False) -> None:
    """Refuses, before anything is trained, a base whose tuned copy could not be compared with it; reads headers."""
    checkpoint = open_checkpoint(base)
    dequantised(checkpoint, read_config(str(base), trust_remote_code=trust_remote_code), checkpoint)
