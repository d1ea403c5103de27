"""What an item costs an object store: counted on a real one."""

import pyarrow as pa
import pytest

from benchmarks.scale import READ_AGAIN, REQUESTS
from moe_safety.jobs import Parts, Plan
from moe_safety.rundir import RunDir
from tests.objectstore import serving


@pytest.fixture
def run(monkeypatch):
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        yield RunDir(uri.replace("NAME", "counted"))


@pytest.fixture
def asked(monkeypatch):
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication as Store

    asked, answer = [], Store.__call__

    def counting(self, environ, start):
        asked.append(environ["REQUEST_METHOD"])
        return answer(self, environ, start)

    monkeypatch.setattr(Store, "__call__", counting)
    return asked


def test_requests_of_an_item(run, asked):
    rows = pa.table({"prompt_id": ["a", "b"], "tokens": pa.array([1, 2], pa.int32())})
    plan = Plan(run, "plans/capture.parquet")
    plan.write([rows] * 3, rows.schema, "identity")
    parts = Parts(run, "routing", plan)
    for item in range(3):
        parts.commit(item, plan.rows(item), {})
    parts.notes()
    run.digests(parts.table_names)  # for the manifest
    each = [len(asked) / 3]
    asked.clear()
    run.digests(parts.table_names)  # `identify` asks whether they are as they were, whose they are, and sums them
    for columns in (["prompt_id"], None):
        [*parts.tables(columns)]
    each.append(len(asked) / 3)
    # The plan itself takes a few.
    assert REQUESTS - 4 <= each[0] <= REQUESTS + 3
    assert each[1] <= READ_AGAIN
