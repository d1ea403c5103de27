"""The run directory: atomic files on any filesystem, manifests, skipping and locks."""

from moe_safety.rundir.fetch import fetched
from moe_safety.rundir.stage import Outcome, Stage, is_finished, run_stage, summary_of
from moe_safety.rundir.storage import RunDir, file_digest, open_uri

__all__ = ["Outcome", "RunDir", "Stage", "fetched", "file_digest", "is_finished", "open_uri", "run_stage", "summary_of"]
