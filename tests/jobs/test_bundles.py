"""Several items at once: which ones, and that nothing which is made of them hangs on it."""

import threading
from dataclasses import dataclass, field, replace
from unittest.mock import MagicMock

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.errors import RunError
from moe_safety.jobs import Parts, watchdog
from moe_safety.jobs.bundles import bundles
from moe_safety.jobs.replica import RemoteJob, Replica
from moe_safety.jobs.watchdog import Watchdog
from tests.jobs.handlers import SCHEMA, Square
from tests.jobs.test_run import ALL, SQUARES, handled, make_job, result


@dataclass
class Shared:
    """A job of which only this is asked."""

    at_once: object


def sizes(many, items, replicas):
    return [len(own) for _, own in bundles([Shared(lambda item: many)], [(0, item) for item in range(items)], replicas)]


def test_a_file_of_attacks_keeps_eight_replicas_busy_and_fills_one():
    assert sorted(sizes(4, 11, 8)) == [1] * 5 + [2] * 3
    assert sizes(4, 11, 1) == [4, 4, 3]
    assert sizes(4, 100, 8) == [4] * 25
    assert sizes(4, 3, 8) == sizes(1, 3, 1) == [1] * 3


@given(
    jobs=st.lists(st.lists(st.sampled_from([1, 2, 4, 7]), max_size=20), min_size=1, max_size=4),
    replicas=st.integers(1, 9),
)
def test_every_item_is_given_once_in_order_and_no_replica_is_left_without(jobs, replicas):
    todo = [(number, item) for number, items in enumerate(jobs) for item in range(len(items))]
    found = bundles([Shared(items.__getitem__) for items in jobs], todo, replicas)
    assert [(job, item) for job, items in found for item in items] == todo
    assert len(found) >= min(len(todo), replicas)
    for job, items in found:
        most = [jobs[job][item] for item in items]
        assert len(items) == 1 or min(most) > 1
        assert len(items) <= max(most) + 1, "where items are alike, no more than are taken at once"
        assert len(set(most)) > 1 or len(items) <= most[0]


@dataclass
class Together(Square):
    """Squares all numbers at once, unless told otherwise."""

    seen: list = field(default_factory=list)
    too_large: int = 1000
    refuses: bool = False

    def together(self, items):
        if self.refuses:
            return None
        every = [number for rows in items for number in rows["n"].to_pylist()]
        if len(every) > self.too_large:
            raise MemoryError("too large")
        self.seen.append(len(items))
        return [pa.table({"n": [n**2 for n in rows["n"].to_pylist()]}, schema=SCHEMA) for rows in items]


@dataclass
class InTurn(Square):
    """Squares the numbers of one item after another; from some item on they are too large together."""

    seen: list = field(default_factory=list)
    too_many: int = 1000

    def in_turn(self, items):
        for number, rows in enumerate(items):
            if number >= self.too_many:
                raise MemoryError("too large")
            self.seen.append(number)
            yield Square.__call__(self, rows, {})


def remote(job, handler):
    return RemoteJob(job.parts.run, job.plan.name, (job.parts.folder,), lambda: handler, None)


def files(job):
    run = job.parts.run
    return {name: run.digest(name) for name in run.files(job.parts.folder)}


@pytest.fixture
def alone(tmp_path):
    """What six items leave that are handled one by one."""
    job, replica = make_job(tmp_path), Replica()
    for item in range(6):
        assert not replica.handle("one by one", [remote(job, Square(str(tmp_path)))], 0, [item])["error"]
    left = files(job)
    job.parts.run.delete_folder(job.parts.folder)
    (tmp_path / "handled").unlink()
    return left


@pytest.mark.parametrize("given", [[[0, 1, 2, 3, 4, 5]], [[0, 1], [2, 3, 4], [5]], [[3, 5], [0, 1, 2, 4]]])
@pytest.mark.parametrize("behaves", [{}, {"too_large": 20}, {"refuses": True}])
def test_parts_do_not_hang_on_what_was_given_at_once(tmp_path, alone, given, behaves):
    job, handler, replica = make_job(tmp_path), Together(str(tmp_path), **behaves), Replica()
    for items in given:
        told = replica.handle("ticket", [remote(job, handler)], 0, items)
        assert (told["error"], told["items"], told["rows"]) == ("", len(items), 8 * len(items))
    assert files(job) == alone
    assert result(job) == SQUARES
    joined = [] if behaves.get("refuses") else [n for n in map(len, given) if n > 1 and 8 * n <= handler.too_large]
    assert handler.seen == joined


def test_what_was_halved_before_or_ended_a_process_is_handled_by_itself(tmp_path, alone):
    job, replica = make_job(tmp_path), Replica()
    trap = remote(job, Square(str(tmp_path), trap=ALL[8], deed="memory"))
    assert not replica.handle("first", [trap], 0, [1])["error"]
    marker = job.parts.marker_name(1)
    halved = job.parts.run.read_json(marker)
    assert halved["notes"] == {"halved": 2}
    job.parts.run.delete(marker)
    handler = Together(str(tmp_path))
    assert not replica.handle("second", [remote(job, handler)], 0, [0, 1, 2])["error"]
    assert job.parts.run.read_json(marker) == halved, "it is cut in the same places"
    dog = Watchdog(job.parts, 4, None)
    dog.__enter__()  # Of this attempt nothing more is heard.
    assert not replica.handle("third", [remote(job, handler)], 0, [3, 4, 5])["error"]
    assert handler.seen == []
    assert sorted(set(handled(tmp_path))) == ALL
    assert result(job) == SQUARES


def test_a_process_that_ends_between_two_parts_loses_only_those_that_are_not_there(tmp_path, alone, monkeypatch):
    job, real = make_job(tmp_path), Parts.commit

    def ends(parts, item, part, notes):
        if item == 2:
            raise KeyboardInterrupt
        real(parts, item, part, notes)

    monkeypatch.setattr(Parts, "commit", ends)
    with pytest.raises(KeyboardInterrupt):
        Replica().handle("ticket", [remote(job, Together(str(tmp_path)))], 0, [0, 1, 2, 3])
    monkeypatch.setattr(Parts, "commit", real)
    assert job.parts.unfinished() == [2, 3, 4, 5]
    handler = Together(str(tmp_path))
    assert not Replica().handle("again", [remote(job, handler)], 0, [2, 3, 4, 5])["error"]
    assert handler.seen == [4]
    assert files(job) == alone


@pytest.mark.parametrize("too_many", [0, 1, 4, 6])
def test_what_was_made_before_memory_ran_out_is_not_made_again(tmp_path, alone, too_many):
    job, handler = make_job(tmp_path), InTurn(str(tmp_path), too_many=too_many)
    assert not Replica().handle("ticket", [remote(job, handler)], 0, list(range(6)))["error"]
    assert handler.seen == list(range(too_many))
    assert handled(tmp_path) == ALL
    assert files(job) == alone


@pytest.mark.parametrize("kind", [Square, InTurn])
def test_a_part_is_written_while_the_next_one_is_made(tmp_path, alone, monkeypatch, kind):
    job, handler, real, made, order = make_job(tmp_path), kind(str(tmp_path)), Parts.commit, Square.__call__, []
    begun = [threading.Event() for _ in range(6)]

    def makes(self, rows, notes):
        begun[rows["n"][0].as_py() // 8].set()
        return made(self, rows, notes)

    def commit(parts, item, part, notes):
        assert item == 5 or begun[item + 1].wait(20), "the next one waits for this"
        order.append(item)
        real(parts, item, part, notes)

    monkeypatch.setattr(Square, "__call__", makes)
    monkeypatch.setattr(Parts, "commit", commit)
    told = Replica().handle("ticket", [remote(job, handler)], 0, list(range(6)))
    assert (told["error"], told["rows"]) == ("", 48)
    assert order == list(range(6))
    assert files(job) == alone


@pytest.mark.parametrize(("kind", "first"), [(Square, 2), (InTurn, 2), (Together, 6)])
def test_several_may_take_no_longer_than_each_by_itself(tmp_path, monkeypatch, kind, first):
    waits, job = [], make_job(tmp_path)
    monkeypatch.setattr(watchdog.threading, "Timer", lambda seconds, end: waits.append(seconds) or MagicMock())
    given = replace(remote(job, kind(str(tmp_path))), item_timeout=10.0)
    assert not Replica().handle("ticket", [given], 0, list(range(6)))["error"]
    assert waits == [10.0, first * 10.0, *[10.0] * 6]


def test_a_part_that_cannot_be_written_ends_the_job_with_its_own_words(tmp_path, monkeypatch):
    def full(parts, item, part, notes):
        raise RunError("no space is left")

    monkeypatch.setattr(Parts, "commit", full)
    job = make_job(tmp_path)
    told = Replica().handle("ticket", [remote(job, Square(str(tmp_path)))], 0, [0, 1, 2, 3])
    assert (told["error"], told["message"], told["broken"]) == ("RunError", "no space is left", False)
    assert len(set(handled(tmp_path))) <= 16, "nothing is made that could not be left"


def test_of_several_whose_process_ended_those_that_are_there_are_not_made_again(tmp_path, alone):
    job = make_job(tmp_path)
    assert not Replica().handle("first", [remote(job, Square(str(tmp_path)))], 0, [0, 1, 2])["error"]
    Watchdog(job.parts, 5, None).__enter__()  # Of this attempt nothing more is heard.
    again = Replica().handle("again", [remote(job, Square(str(tmp_path)))], 0, list(range(6)))
    assert (again["error"], again["items"], again["rows"]) == ("", 6, 24)
    assert handled(tmp_path) == ALL
    assert files(job) == alone


def test_several_are_watched_by_one_note(tmp_path, monkeypatch):
    job, noted = make_job(tmp_path), []
    handler = Square(str(tmp_path))
    run = job.parts.run
    real = Square.__call__
    monkeypatch.setattr(Square, "__call__", lambda *given: noted.append(run.names("squares/_attempts")) or real(*given))
    assert not Replica().handle("ticket", [remote(job, handler)], 0, [2, 3, 4])["error"]
    assert noted == [["squares/_attempts/part-000004.json"]] * 3
    assert run.names("squares/_attempts") == []


class Broken(Together):
    def together(self, items):
        raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(("kind", "place"), [(Broken, 2), (Square, 3), (InTurn, 3)])
def test_a_bug_in_several_is_told_with_its_place(tmp_path, kind, place):
    job, handler = make_job(tmp_path), kind(str(tmp_path), trap=ALL[25], deed="bug")
    told = Replica().handle("ticket", [remote(job, handler)], 0, [2, 3, 4])
    assert (told["error"], told["broken"]) == ("RunError", True)
    assert told["message"].endswith(f"part-{place:06d}.txt: ZeroDivisionError: a bug")
    assert 2 not in job.parts.unfinished() or place == 2
