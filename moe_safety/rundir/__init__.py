"""The run directory: atomic files on any filesystem, manifests, skipping and locks."""

from moe_safety.rundir.stage import Outcome, Stage, is_finished, run_stage, summary_of
from moe_safety.rundir.storage import RunDir, file_digest

__all__ = ["Outcome", "RunDir", "Stage", "file_digest", "is_finished", "run_stage", "summary_of"]
