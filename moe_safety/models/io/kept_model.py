"""The model that a process loaded last, kept for whoever asks for the same one next, with whatever delta."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from moe_safety.config import ModelConfig
from moe_safety.errors import RunError
from moe_safety.models.io.fingerprint import local_folder
from moe_safety.models.io.load import delta_file, flips_of, load_model, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from moe_safety.models.io.swap import Flips


@dataclass
class _Kept:
    wanted: object
    model: PreTrainedModel
    inside: Flips | None = None
    """The delta that is in."""


_kept: _Kept | None = None


def kept_model(model: ModelConfig, gpus: int) -> PreTrainedModel:
    """The model in `eval()`, as `load_model` gives it. Whoever changes it on the way puts it back as it was. The base
    stays from one delta to the next: who asks for another one changes the model of who asked before."""
    global _kept
    wanted = (model.model_dump_json(), gpus, _state(local_folder(model_path(model), model.revision).iterdir()))
    if _kept is None or _kept.wanted != wanted:
        forget_model()  # Two of them might not fit.
        _kept = _Kept(wanted, load_model(model.with_delta(None), gpus))
    if _kept.inside:
        _kept.inside.flip(_kept.model)
        _kept.inside = None
    if model.delta:
        inside = kept_flips(model)
        inside.flip(_kept.model)
        _kept.inside = inside
    return _kept.model


@dataclass(frozen=True)
class Lent:
    """The kept model, while something changes it. Nothing is kept meanwhile: whoever fails leaves nothing wrong."""

    model: PreTrainedModel
    wanted: object
    """What it was loaded for: files that were written anew meanwhile are not what it holds."""
    sums: dict[str, int]
    """What its weights' bits add up to, without a delta."""

    @classmethod
    def of(cls, model: ModelConfig) -> Lent:
        """The model on one device, with its delta, as `load_model` gives it."""
        global _kept
        base = kept_model(model.with_delta(None), 1)
        sums = _sums(base)
        changing = kept_model(model, 1)
        assert _kept
        lent, _kept = cls(changing, _kept.wanted, sums), None
        return lent

    def give_back(self, tuned: ModelConfig) -> None:
        """Keeps it again. The delta of `tuned` is what changed of its base: that nothing else did is looked at."""
        global _kept
        kept_flips(tuned).flip(self.model)
        if moved := self.sums.items() ^ _sums(self.model).items():
            name = min(name for name, _ in moved)
            raise RunError(f"{name} is not what it was before training, and the delta does not tell of it")
        _kept = _Kept(self.wanted, self.model)


def _sums(model: PreTrainedModel) -> dict[str, int]:
    """Of each tensor's bits, taken for whole numbers, by its name: nearly whatever moves shows in them."""
    import torch

    from moe_safety.models.io.swap import INTEGERS

    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    whole = (tensor.detach().view(INTEGERS[tensor.element_size()]) for tensor in tensors.values())
    sums = torch.stack([bits.sum(dtype=torch.int64) for bits in whole]).tolist()
    return dict(zip(tensors, sums, strict=True))


def forget_model() -> None:
    """Gives the memory back that the kept model takes, or one that was lent and did not come back, for another one."""
    global _kept
    _read.cache_clear()
    _kept = None
    if "torch" in sys.modules:
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def kept_flips(model: ModelConfig) -> Flips:
    """What the model's delta changes of its base, read once for all who ask one after the other."""
    file = delta_file(model)
    assert file is not None
    return _read(_Asked(model, (str(file), *_state([file]))))


@dataclass(frozen=True)
class _Asked:
    model: ModelConfig
    state: tuple[object, ...]

    def __hash__(self) -> int:
        return hash(self.state)


@lru_cache(maxsize=1)
def _read(asked: _Asked) -> Flips:
    return flips_of(asked.model)


def _state(files: Iterable[Path]) -> tuple[object, ...]:
    """What shows that a file was written anew: a training leaves its model where an earlier one left its own."""
    stats = [(file.name, file.stat()) for file in sorted(files)]
    return tuple((name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats)
