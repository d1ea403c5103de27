"""Ctrl-C and SIGTERM: one line, the exit code that shells expect, and nothing in the way of going on."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from moe_safety.errors import RunError
from moe_safety.pipeline import run_one
from moe_safety.stopping import Stopped, gently, own_handlers, stoppable

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_what_runs_whatever_it_catches(number):
    def busy():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except Exception:
            pytest.fail("taken for a failure")

    before = list(map(signal.getsignal, SIGNALS))
    with pytest.raises(Stopped) as stopped, stoppable():
        busy()
    assert stopped.value.exit_code == 128 + number
    assert str(stopped.value).startswith(f"stopped by {number.name}; ")
    assert list(map(signal.getsignal, SIGNALS)) == before


def test_a_library_that_says_itself_that_it_was_interrupted_tells_the_same():
    def library():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except BaseException:
            raise KeyboardInterrupt from None

    with pytest.raises(Stopped, match="SIGTERM"), stoppable():
        library()


def test_what_is_to_be_ignored_is_ignored():
    with own_handlers():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stoppable():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_handlers_that_a_library_leaves_are_taken_away():
    before = list(map(signal.getsignal, SIGNALS))
    with own_handlers():
        for number in SIGNALS:
            signal.signal(number, lambda *_: sys.exit(0))
    assert list(map(signal.getsignal, SIGNALS)) == before


def test_a_thread_which_may_set_no_handlers_runs_commands_too():
    seen = []

    def inside():
        with stoppable(), own_handlers():
            seen.append(True)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [True]


@pytest.fixture
def training(configured):
    """Starts `train`, which has its selection, sends it the signal after some steps, and returns how it ended."""
    config = configured("identify.method=random", "identify.top_k=4")
    run_one("identify", config)

    def stop(number, *flags):
        flags = [f"run_dir={config.run_dir}", "data.max_samples=60", "identify.method=random", *flags]
        flags += ["identify.top_k=4", "train.num_epochs=2000", "train.checkpoint_every=1000000"]
        given = [part for flag in flags for part in ("--set", flag)]
        command = [sys.executable, "-u", "-m", "moe_safety", "train", "configs/demo.yaml", *given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            steps = (int(line.split(" step ")[1].split(":")[0]) for line in process.stdout if " step " in line)
            first = next(steps)
            next(steps), next(steps)
            process.send_signal(number)
            *_, last = steps
            err = process.communicate(timeout=100)[1]
        # On a busy machine a line says meanwhile what it is at.
        return process.returncode, "".join(err.splitlines(keepends=True)[-2:]), first, last

    return stop


@pytest.mark.parametrize("launch", ["process", pytest.param("ray", marks=pytest.mark.soak)])
def test_training_that_is_stopped_leaves_a_checkpoint_and_goes_on_with_the_next_step(training, launch):
    workers = ["train.launch=ray", "train.num_workers=2"] if launch == "ray" else ["train.launch=process"]
    code, told, first, last = training(signal.SIGINT, *workers)
    asked = "stopping at the next step, with a checkpoint; once more stops at once\n"
    assert (code, told) == (130, f"{asked}stopped by SIGINT; run again, it goes on from what is finished\n")
    assert first == 1
    code, told, first, _ = training(signal.SIGTERM, *workers)
    assert (code, told) == (143, f"{asked}stopped by SIGTERM; run again, it goes on from what is finished\n")
    assert first == last + 1


def test_who_is_asked_ends_well_and_a_second_signal_ends_at_once():
    asked, ended = threading.Event(), []

    def patient():
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(asked.wait(10))

    def stubborn():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        ended.append("went on")

    with pytest.raises(Stopped, match="SIGINT"), stoppable(), gently(asked.set):
        patient()
    assert ended == [True]
    with pytest.raises(Stopped, match="SIGTERM"), stoppable(), gently(lambda: None):
        stubborn()
    assert ended == [True]


def test_a_second_signal_ends_at_once_also_where_a_library_has_put_the_first_handler_back():
    def stubborn():
        with own_handlers():
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        went_on.append(True)

    went_on = []
    with pytest.raises(Stopped, match="SIGINT"), stoppable(), gently(lambda: None):
        stubborn()
    assert not went_on


def test_who_cannot_be_told_ends_well_all_the_same(monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    def patient():
        os.kill(os.getpid(), signal.SIGTERM)
        ended.append(asked.wait(10))

    asked, ended = threading.Event(), []
    monkeypatch.setattr(os, "write", gone)
    with pytest.raises(Stopped), stoppable(), gently(asked.set):
        patient()
    assert ended == [True]


def test_what_goes_wrong_on_the_way_to_the_end_is_told():
    def full():
        os.kill(os.getpid(), signal.SIGINT)
        raise RunError("the disk is full")

    with pytest.raises(RunError, match="the disk is full"), stoppable(), gently(lambda: None):
        full()
