"""Models on disk and in memory: what a model's files are, loading, saving."""

from moe_safety.models.io.fingerprint import check_reachable, fingerprint
from moe_safety.models.io.kept_model import Lent, forget_model, kept_flips, kept_model
from moe_safety.models.io.load import (
    check_loadable,
    delta_file,
    dtype_of,
    flips_of,
    load_chat,
    load_model,
    load_tokenizer,
    model_fingerprint,
    model_folder,
    model_path,
    skeleton_of,
    window_of,
)

__all__ = [
    "Lent",
    "check_loadable",
    "check_reachable",
    "delta_file",
    "dtype_of",
    "fingerprint",
    "flips_of",
    "forget_model",
    "kept_flips",
    "kept_model",
    "load_chat",
    "load_model",
    "load_tokenizer",
    "model_fingerprint",
    "model_folder",
    "model_path",
    "skeleton_of",
    "window_of",
]
