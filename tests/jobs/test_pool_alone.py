"""What the pool does when replicas end or do not start, with replicas that are none."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from moe_safety.errors import InputError
from moe_safety.jobs import pool
from moe_safety.jobs.handle import callers
from moe_safety.jobs.pool import STARTS, Pool


class Method:
    def __init__(self, function):
        self.remote = function


class Fake:
    """A replica that does not start so often as `deaths` says."""

    deaths = started = 0

    def __init__(self, pool):
        self.place, self.call = Method(self._place), Method(self._call)

    async def _place(self):
        Fake.started += 1
        if Fake.started <= Fake.deaths:
            raise RayActorError(error_msg="The actor died:\nModuleNotFoundError: No module named 'torch'")
        return "elsewhere", 1

    async def _call(self, function, *given):
        return await function(*given)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    class Remote:
        def options(self, **options):
            return Method(Fake)

    monkeypatch.setattr(pool.ray, "remote", lambda cls: Remote())
    monkeypatch.setattr(pool.ray, "kill", lambda replica: None)
    monkeypatch.setattr(pool.ray, "get_runtime_context", lambda: SimpleNamespace(current_actor=None))
    monkeypatch.setattr(Fake, "started", 0)


async def nothing():
    return 7


def test_a_replica_that_was_ended_while_lent_is_not_free():
    async def lent():
        there = Pool(0, 30.0)
        await there.hold(1)
        assert await there.lend(1, there.release) is None
        return there.free

    assert asyncio.run(lent()) == []


@pytest.mark.parametrize("deaths", [0, STARTS - 1])
def test_a_replica_may_fail_to_start_now_and_then(monkeypatch, deaths):
    monkeypatch.setattr(Fake, "deaths", deaths)

    async def lent():
        there = Pool(0, 30.0)
        await there.hold(1)
        return await asyncio.wait_for(there.lend(1, nothing), 10)

    assert asyncio.run(lent()) == 7
    assert Fake.started == deaths + 1


def test_what_waits_for_replicas_that_never_start_ends(monkeypatch):
    monkeypatch.setattr(Fake, "deaths", 1000)

    async def asked():
        there = Pool(0, 30.0)
        await there.hold(1)
        item = asyncio.ensure_future(there.handle("ticket", [None], 0, [3, 4]))
        with pytest.raises(InputError, match="lacks what this job needs"):
            await asyncio.wait_for(there.lend(1, nothing), 10)
        return await asyncio.wait_for(item, 10)

    result = asyncio.run(asked())
    assert (result["items"], result["error"]) == (2, "InputError")
    assert result["message"].endswith("ModuleNotFoundError: No module named 'torch'; install it on every host")
    assert Fake.started == STARTS


def test_a_replica_has_its_next_item_at_hand_and_no_caller_is_without_work():
    assert [callers(replicas, 100) for replicas in (1, 2, 3, 8)] == [2, 3, 5, 12]
    assert [callers(2, items) for items in (1, 2, 3)] == [1, 2, 3]
