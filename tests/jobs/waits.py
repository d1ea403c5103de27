"""A job that says which processes it was done by."""

from functools import partial

import pyarrow as pa

from moe_safety.config import ModelJob
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.rundir import RunDir
from tests.jobs.handlers import PID_SCHEMA as SCHEMA
from tests.jobs.handlers import Who


def workers(folder, replicas=2, handler=Who, **options):
    run = RunDir(str(folder))
    plan = Plan(run, "plans/who.parquet")
    plan.write([pa.table({"pid": [item]}, schema=SCHEMA) for item in range(6)], SCHEMA, "who")
    job = Job(plan, Parts(run, "who", plan), partial(handler, **options), ModelJob(replicas=replicas))
    run_job(job)
    return {row["pid"] for table in job.parts.tables() for row in table.to_pylist()}
