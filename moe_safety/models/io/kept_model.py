"""The model that a process loaded last, kept for whoever asks for the same one next."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from moe_safety.config import ModelConfig
from moe_safety.models.io.fingerprint import local_folder
from moe_safety.models.io.load import load_model, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_kept: tuple[object, PreTrainedModel] | None = None


def kept_model(model: ModelConfig, gpus: int) -> PreTrainedModel:
    """The model in `eval()`, as `load_model` gives it. Whoever changes it on the way puts it back as it was."""
    global _kept
    wanted = (model.model_dump_json(), gpus, _state(model))
    if _kept is None or _kept[0] != wanted:
        import torch

        # Two of them might not fit.
        _kept = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _kept = wanted, load_model(model, gpus)
    return _kept[1]


def _state(model: ModelConfig) -> list[tuple[object, ...]]:
    """What shows that a file was written anew: a training leaves its model where an earlier one left its own."""
    files = sorted(local_folder(model_path(model), model.revision).iterdir())
    stats = [(file.name, file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]
