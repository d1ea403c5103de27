"""The distributed pattern that every stage stands on: plan, replicas, parts."""

from moe_safety.jobs.beside import beside
from moe_safety.jobs.cards import free_cards
from moe_safety.jobs.job import Handler, Job
from moe_safety.jobs.parts import Part, Parts
from moe_safety.jobs.plan import Plan, pack, spread
from moe_safety.jobs.progress import Progress, phase_of, told_seconds
from moe_safety.jobs.run import Report, run_job, run_jobs
from moe_safety.jobs.warned import warnings_to

__all__ = [
    "Handler",
    "Job",
    "Part",
    "Parts",
    "Plan",
    "Progress",
    "Report",
    "beside",
    "free_cards",
    "pack",
    "phase_of",
    "run_job",
    "run_jobs",
    "spread",
    "told_seconds",
    "warnings_to",
]
