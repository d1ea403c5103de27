"""Checkpoints on disk: what differs between two of them, in which experts and routers, and the difference as a file."""

from moe_safety.checkpoints.apply import apply_delta, revert_delta
from moe_safety.checkpoints.delta import extract_delta
from moe_safety.checkpoints.examine import check_comparable, open_both
from moe_safety.checkpoints.printing import describe
from moe_safety.checkpoints.trained import write_trained
from moe_safety.checkpoints.verify import Report, verify

__all__ = [
    "Report",
    "apply_delta",
    "check_comparable",
    "describe",
    "extract_delta",
    "open_both",
    "revert_delta",
    "verify",
    "write_trained",
]
