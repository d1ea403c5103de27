"""The run directory: atomic files on any filesystem, manifests, skipping and locks."""

from moe_safety.rundir.fetch import fetched
from moe_safety.rundir.storage import RunDir, file_digest, open_uri
from moe_safety.rundir.work import Outcome, Work, is_finished, run_work, summary_of

__all__ = ["Outcome", "RunDir", "Work", "fetched", "file_digest", "is_finished", "open_uri", "run_work", "summary_of"]
