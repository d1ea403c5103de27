"""What a command says while it works."""

import io
import sys
import threading
import time

import pytest

from moe_safety.jobs import progress
from moe_safety.jobs.progress import Progress, phase_of, told_seconds


class Hands:
    """A clock that goes on when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Hands()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_the_rate_begins_with_the_work_and_not_with_the_first_finished_item(clock, capsys):
    """Two actors that end at the same time seemed to do a whole job in no time."""
    job = Progress("capture", 2, lambda: "working")
    clock.now += 30  # Ray, imports, weights.
    clock.now += 10
    job.advance(8, 500, worked=10.0)
    clock.now += 0.001
    job.advance(8, 500, worked=9.5)
    assert job.rates(clock.now) == pytest.approx((1.6, 100), rel=1e-3)
    assert capsys.readouterr().err == "capture: 2/2 items, 1.6 prompts/s, 100 tokens/s, 40 s\n"


def test_a_line_says_the_phase_what_is_done_and_what_is_left(clock):
    job = Progress("respond", 4, lambda: phase)
    phase = "reading weights"
    clock.now += 45
    assert job.line(clock.now) == "reading weights, 0/4 items, for 45 s"
    phase = "working"
    clock.now += 10
    job.advance(1, 100, worked=10.0)
    assert job.line(clock.now) == "working, 1/4 items, 0.1 prompts/s, 10 tokens/s, 30 s left"
    stage = Progress("identify", None, lambda: phase_of("other"))
    clock.now += 61
    assert stage.line(clock.now) == "working, for 61 s"


def test_who_does_not_answer_what_it_is_at_breaks_nothing(clock):
    assert Progress("capture", None, lambda: 1 / 0).line(clock.now) == "starting, for 0.0 s"


def wait_for(text, stream):
    for _ in range(3000):
        if text in stream():
            return stream()
        time.sleep(0.01)
    pytest.fail(stream())


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_LOOK_EVERY_SECONDS", 0.01)


def test_in_a_log_the_innermost_speaks_a_line_now_and_then(hasty, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with Progress("compare", None, lambda: "working"):
        wait_for("compare: working, for ", said.getvalue)
        with Progress("train", 9, lambda: "reading weights"):
            wait_for("train: reading weights, 0/9 items, for ", said.getvalue)
            before = said.getvalue().count("compare")
        wait_for("compare", lambda: said.getvalue()[said.getvalue().rindex("train") :])
    assert before < said.getvalue().count("compare")
    assert "\r" not in said.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_line_is_written_over_and_prints_stand_above_it(hasty, monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)
    with Progress("capture", 9, lambda: "compiling"):
        wait_for("\rcapture: compiling, 0/9 items, for ", shown.getvalue)
        print("a warning")
    assert "\x1b[K\r\x1b[Ka warning\n" in shown.getvalue()
    assert shown.getvalue().endswith("\r\x1b[K") or shown.getvalue().endswith("a warning\n")
    assert sys.stderr is shown


def test_a_line_that_is_half_printed_is_not_written_over(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)
    status = progress._StatusLine()
    print("a warning", end="")
    status.show("capture")
    print()
    status.show("capture")
    status.end()
    assert shown.getvalue() == "a warning\n\rcapture\x1b[K\r\x1b[K"


def test_who_answers_after_the_end_leaves_no_line(hasty, monkeypatch):
    """What replicas are at is asked of Ray, which may take longer than the rest of the job."""
    shown, asked, answered, looks = Terminal(), threading.Event(), threading.Event(), []
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)

    def phase():
        looks.append(threading.current_thread())
        asked.set()
        answered.wait(30)
        return "working"

    with Progress("capture", 9, phase):
        assert asked.wait(30)
    answered.set()
    looks[0].join(30)
    assert "capture" not in shown.getvalue()


def test_one_that_ends_while_another_speaks_leaves_it_its_line(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)
    one, other = (Progress(name, None, lambda: "working") for name in ("train a", "train b"))
    one.__enter__()
    other.__enter__()
    status = other.status
    one.__exit__(None, None, None)
    assert other.status is status
    other.__exit__(None, None, None)
    assert sys.stderr is sys.stdout is shown


def test_the_quiet_say_nothing(hasty, monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(Progress, "quiet", True)
    with Progress("capture", 1, lambda: "working") as job:
        job.advance(1, 1, worked=1.0)
    assert shown.getvalue() == ""


def test_seconds_are_told_as_people_say_them():
    told = [told_seconds(seconds) for seconds in (0.04, 9.9, 99.6, 130, 7300)]
    assert told == ["0.0 s", "9.9 s", "100 s", "2 min", "2.0 h"]
