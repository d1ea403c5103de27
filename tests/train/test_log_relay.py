"""What a worker on another machine says stands on the user's screen while it works."""

import logging
import time
from types import SimpleNamespace

import pytest

from moe_safety.errors import RunError
from moe_safety.rundir import RunDir
from moe_safety.train import log_relay
from moe_safety.train.log_relay import Teller, listening
from moe_safety.train.step_log import Watcher
from tests.objectstore import serving


@pytest.fixture(params=["disk", "object store"])
def run(request, tmp_path, monkeypatch):
    monkeypatch.setattr(log_relay, "EVERY_SECONDS", 0.1)
    if request.param == "disk":
        yield RunDir(str(tmp_path))
        return
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        yield RunDir(uri)


def heard(capsys, wanted):
    """What is printed until all that is wanted is there."""
    found, until = "", time.monotonic() + 240
    while not all(line in found for line in wanted) and time.monotonic() < until:
        time.sleep(0.05)
        found += capsys.readouterr().out
    return found


def test_lines_are_printed_while_the_work_goes_on(run, capsys):
    run.write_bytes("told/00000000000000000001.txt", b"of a driver that was killed\n")
    with listening(run, "told"):
        teller = Teller(run, "told")
        teller("step 1")
        first = heard(capsys, ["step 1\n"])
        for step in (2, 3):
            teller(f"step {step}")
        teller.tell()
        again = Teller(run, "told")  # A worker that was started again.
        for step in (3, 4):
            again(f"step {step}")
        again.tell()
        time.sleep(0.5)
    # Each once, and nothing of the driver before.
    assert (first + capsys.readouterr().out).splitlines() == [f"step {step}" for step in (1, 2, 3, 3, 4)]
    assert run.files("told") == []


def test_lines_that_cannot_be_left_are_left_later(tmp_path, monkeypatch):
    def full(name, data):
        raise RunError("no space left on device")

    run = RunDir(str(tmp_path))
    teller = Teller(run, "told")
    with monkeypatch.context() as broken:
        broken.setattr(run, "write_bytes", full)
        teller("step 1")
    teller("step 2")
    teller.tell()
    assert b"".join(run.read_bytes(name) for name in run.names("told")) == b"step 1\nstep 2\n"


def test_what_a_worker_warns_of_is_told_once(tmp_path):
    run, config = RunDir(str(tmp_path)), SimpleNamespace(train=SimpleNamespace(launch="ray"))
    task = SimpleNamespace(folder="train/arm/experts", told="told", config=config)
    with Watcher(run, task, SimpleNamespace(rank=0)):
        for reason in ("no card", "no card", "no room"):
            logging.getLogger("moe_safety.models").warning("steps are slower: %s", reason)
    told = b"".join(run.read_bytes(name) for name in run.names("told")).decode()
    assert told.splitlines() == [f"train/arm/experts: steps are slower: no {what}" for what in ("card", "room")]
