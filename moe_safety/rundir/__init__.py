"""The run directory: atomic files on any filesystem, manifests, skipping and locks."""

from moe_safety.rundir.digests import cache_folder, file_digest, in_threads, remember_digest, remembered
from moe_safety.rundir.fetch import fetched, fetched_file
from moe_safety.rundir.lock import stage_lock
from moe_safety.rundir.parquet import broken, check_plain, open_parquet
from moe_safety.rundir.storage import Missing, RunDir, open_uri, place_of, refusals
from moe_safety.rundir.timings import (
    KINDS,
    Account,
    accounted,
    count_imports,
    spent,
    spent_by_replicas,
    stage_account,
    watched,
)
from moe_safety.rundir.work import (
    Outcome,
    Work,
    check_not_refused,
    check_settings,
    discard,
    discard_all,
    is_changed,
    is_finished,
    is_up_to_date,
    made_before,
    manifest_name,
    run_work,
    summary_of,
)

__all__ = [
    "KINDS",
    "Account",
    "Missing",
    "Outcome",
    "RunDir",
    "Work",
    "accounted",
    "broken",
    "cache_folder",
    "check_not_refused",
    "check_plain",
    "check_settings",
    "count_imports",
    "discard",
    "discard_all",
    "fetched",
    "fetched_file",
    "file_digest",
    "in_threads",
    "is_changed",
    "is_finished",
    "is_up_to_date",
    "made_before",
    "manifest_name",
    "open_parquet",
    "open_uri",
    "place_of",
    "refusals",
    "remember_digest",
    "remembered",
    "run_work",
    "spent",
    "spent_by_replicas",
    "stage_account",
    "stage_lock",
    "summary_of",
    "watched",
]
