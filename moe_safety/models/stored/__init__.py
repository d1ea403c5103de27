"""Checkpoints and deltas as they lie on disk: a few megabytes of them are held at a time."""

from moe_safety.models.stored.checkpoint import CHUNK, Checkpoint, Stored, open_checkpoint, open_file
from moe_safety.models.stored.contents import checkpoint_digest, content, contents_of
from moe_safety.models.stored.delta import KIND, Delta, check_base, flip, read_delta, with_delta
from moe_safety.models.stored.patched import Held, Patched

__all__ = [
    "CHUNK",
    "KIND",
    "Checkpoint",
    "Delta",
    "Held",
    "Patched",
    "Stored",
    "check_base",
    "checkpoint_digest",
    "content",
    "contents_of",
    "flip",
    "open_checkpoint",
    "open_file",
    "read_delta",
    "with_delta",
]
