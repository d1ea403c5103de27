import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from moe_safety.errors import InputError, RunError
from moe_safety.rundir import Outcome, RunDir, Work, is_finished, manifest_name, run_work, stage_lock, summary_of


@pytest.fixture
def run(tmp_path):
    return RunDir(str(tmp_path))


class Body:
    """Counts how often it runs."""

    def __init__(self, run):
        self.run, self.times = run, 0

    def __call__(self):
        self.times += 1
        self.run.write_bytes("out.txt", b"result")
        return Outcome(outputs=("out.txt",), summary={"n": self.times})


def test_an_unchanged_stage_is_skipped(run):
    body = Body(run)
    stage = Work("one", settings={"a": (1, 2), "b": {"c": 0.1}})
    first = run_work(run, stage, {}, body)
    second = run_work(run, stage, {}, body)
    assert body.times == 1
    assert (first["skipped"], second["skipped"], second["summary"]) == (False, True, {"n": 1})


def test_changed_settings_refuse_and_say_what_changed(run):
    body = Body(run)
    run_work(run, Work("one", settings={"batches": {"size": 16}}), {}, body)
    with pytest.raises(InputError, match=r"`one` was run with batches.size = 16, now 8; use --force") as error:
        run_work(run, Work("one", settings={"batches": {"size": 8}}), {}, body)
    assert error.value.exit_code == 2
    assert body.times == 1
    run_work(run, Work("one", settings={"batches": {"size": 8}}), {}, body, force=True)
    assert body.times == 2


def test_settings_that_an_earlier_version_called_otherwise_are_one_clear_line(run):
    body = Body(run)
    run_work(run, Work("one", settings={"seed": 1, "judge": {"kind": "rules"}}), {}, body)
    told = "`one` was run by a version of this program that has no setting `judges`; use --force"
    with pytest.raises(InputError, match=told):
        run_work(run, Work("one", settings={"seed": 1, "judges": {"refusal": {"kind": "rules"}}}), {}, body)


def test_force_after_a_change_keeps_parts_that_name_what_decides_them(run):
    def body():
        run.write_bytes("one/notes.txt", b"of the judge")
        run.write_bytes("one/_parts/0.parquet", b"an answer")
        return Outcome(outputs=("one/notes.txt",), summary={})

    def left(judge, **given):
        seen = []
        stage = Work("one", {"judge": judge}, ("in.txt",), folder="one", keyed="one/_parts", **given)
        run_work(run, stage, {}, lambda: seen.append(run.files("one")) or body(), force=True)
        return seen[0]

    run.write_bytes("in.txt", b"1")
    assert left("rules") == []
    assert left("panel") == ["one/_parts/0.parquet"]
    assert left("panel") == [], "nothing changed, so all of it is done again"
    run.write_bytes("in.txt", b"2")
    assert left("panel") == ["one/_parts/0.parquet"]
    assert left("panel", others={"model": "abc"}) == ["one/_parts/0.parquet"]


def test_changed_inputs_refuse(run):
    body = Body(run)
    run.write_bytes("in.txt", b"1")
    stage = Work("one", settings={}, reads=("in.txt",), others={"model": "abc"})
    run_work(run, stage, {}, body)
    run.write_bytes("in.txt", b"2")
    with pytest.raises(InputError, match=r"with another in.txt"):
        run_work(run, stage, {}, body)
    run.write_bytes("in.txt", b"1")
    with pytest.raises(InputError, match="with another model"):
        run_work(run, Work("one", {}, ("in.txt",), {"model": "def"}), {}, body)


def test_a_missing_input_names_it(run):
    with pytest.raises(InputError, match=r"`two` needs in.txt, which is not there"):
        run_work(run, Work("two", {}, ("in.txt",)), {}, Body(run))


def test_a_damaged_output_is_made_again(run):
    body = Body(run)
    stage = Work("one", settings={})
    run_work(run, stage, {}, body)
    run.write_bytes("out.txt", b"flipped")
    run_work(run, stage, {}, body)
    assert body.times == 2
    assert run.read_bytes("out.txt") == b"result"


def test_an_interrupted_stage_runs_again_but_its_parts_are_kept_from_other_settings(run):
    def broken():
        run.write_bytes("parts/one", b"work of hours")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_work(run, Work("one", settings={"a": 1}, folder="parts"), {}, broken)
    with pytest.raises(InputError, match="a = 1, now 2"):
        run_work(run, Work("one", settings={"a": 2}, folder="parts"), {}, Body(run))
    assert run.exists("parts/one")
    assert not run_work(run, Work("one", settings={"a": 1}, folder="parts"), {}, Body(run))["skipped"]


@pytest.mark.parametrize("folder", [None, "parts"])
def test_a_stage_that_failed_before_it_left_anything_takes_other_settings(run, folder):
    def broken():
        raise InputError("is not there", file="attacks.json")

    with pytest.raises(InputError, match="is not there"):
        run_work(run, Work("one", settings={"path": "atacks.json"}, folder=folder), {}, broken)
    corrected = Work("one", settings={"path": "attacks.json"}, folder=folder)
    assert not run_work(run, corrected, {}, Body(run))["skipped"]
    assert run_work(run, corrected, {}, Body(run))["skipped"]


def test_what_must_hold_is_asked_where_there_is_work_and_before_anything_changes(run):
    def refuse():
        raise InputError("cannot be loaded")

    stage, body = Work("one", settings={}), Body(run)
    with pytest.raises(InputError, match="cannot be loaded"):
        run_work(run, stage, {}, body, check=refuse)
    assert run.files("manifests") == []
    run_work(run, stage, {}, body)
    assert run_work(run, stage, {}, body, check=refuse)["skipped"]
    with pytest.raises(InputError, match="cannot be loaded"):
        run_work(run, stage, {}, body, check=refuse, force=True)
    assert run_work(run, stage, {}, body)["skipped"]
    assert body.times == 1


def test_the_manifest_records_config_inputs_and_versions(run):
    run.write_bytes("in.txt", b"1")
    run_work(run, Work("one", {"a": 1}, ("in.txt",)), {"seed": 7}, Body(run))
    manifest = json.loads(run.read_bytes("manifest.json"))["one"]
    assert manifest["config"] == {"seed": 7}
    assert manifest["inputs"] == {"in.txt": run.digest("in.txt")}
    assert manifest["outputs"] == {"out.txt": run.digest("out.txt")}
    assert manifest["versions"]["torch"].startswith("2.")


def of_version(run, stage, **versions):
    name = f"manifests/{stage}.json"
    stored = run.read_json(name)
    run.write_json(name, stored | {"versions": stored["versions"] | versions})


def test_work_of_other_versions_is_gone_on_with_after_one_line(run, capsys):
    for name in ("one", "two"):
        run_work(run, Work(name, {}), {}, Body(run))
    assert capsys.readouterr().err == ""
    of_version(run, "one", torch="1.0.0", numpy="1.0.0")
    of_version(run, "two", torch="1.0.0", transformers="4.0.0")
    assert run_work(run, Work("two", {}), {}, Body(run))["skipped"]
    assert capsys.readouterr().err == "", "nothing is done"
    run_work(run, Work("three", {}), {}, Body(run))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {run.uri}: `three` runs with torch 2.")
    assert line.endswith("beside work of torch 1.0.0 (one, two); transformers 4.0.0 (two): figures may differ")


def test_a_stage_that_is_resumed_with_another_version_says_so(run, capsys):
    def broken():
        run.write_bytes("parts/one", b"work of hours")
        raise ZeroDivisionError

    stage = Work("one", settings={}, folder="parts")
    with pytest.raises(ZeroDivisionError):
        run_work(run, stage, {}, broken)
    of_version(run, "one", torch="1.0.0")
    run_work(run, stage, {}, Body(run), force=True)
    assert capsys.readouterr().err == "", "all of it is done again"
    with pytest.raises(ZeroDivisionError):
        run_work(run, stage, {}, broken, force=True)
    of_version(run, "one", torch="1.0.0")
    run_work(run, stage, {}, Body(run))
    assert "beside work of torch 1.0.0 (one): figures may differ" in capsys.readouterr().err


def _hold(uri, started, release):
    with stage_lock(RunDir(uri), "one"):
        started.set()
        release.wait(20)


def test_two_writers_on_one_stage_but_not_on_two(run, tmp_path):
    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), started, release))
    holder.start()
    assert started.wait(20)
    with pytest.raises(RunError, match=f"`one` is being run already by process {holder.pid}"):
        run_work(run, Work("one", {}), {}, Body(run))
    run_work(run, Work("other", {}), {}, Body(run))

    holder.kill()  # SIGKILL: the lock goes with its process.
    holder.join()
    time.sleep(0.1)
    assert not run_work(run, Work("one", {}), {}, Body(run))["skipped"]


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    run = RunDir(str(tmp_path / "file" / "run"))
    with pytest.raises(RunError, match=r"locks/one.lock: Not a directory$"):
        run_work(run, Work("one", settings={}), {}, lambda: Outcome((), {}))


def test_a_lock_that_a_full_disk_does_not_take_is_one_line(run):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(RunError, match=r"locks/one\.lock: "), stage_lock(run, "one"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_several_read_what_a_stage_left_while_nobody_writes_it(run):
    taken = pytest.raises(RunError, match="`one` is being run already")
    with stage_lock(run, "one", shared=True), stage_lock(run, "one", shared=True), taken:
        run_work(run, Work("one", {}), {}, Body(run))
    with stage_lock(run, "one"), taken, stage_lock(run, "one", shared=True):
        pytest.fail("read while it is written")


def test_manifests_that_vanish_while_they_are_read(run, monkeypatch):
    """As another command's `--force` makes them do, between a look at the folder and the reading."""
    run_work(run, Work("one", {}), {}, Body(run))
    run_work(run, Work("two", {}), {}, Body(run))
    names = RunDir.names

    def looks(self, folder, suffix=""):
        found = names(self, folder, suffix)
        self.delete(manifest_name("one"))
        return sorted({*found, manifest_name("one")}) if folder == "manifests" else found

    monkeypatch.setattr(RunDir, "names", looks)
    monkeypatch.setattr(RunDir, "exists", lambda self, name: True)
    run_work(run, Work("three", {}), {}, Body(run))
    assert set(run.read_json("manifest.json")) == {"two", "three"}
    assert not is_finished(run, "one")
    with pytest.raises(InputError, match="`one` has not been run yet"):
        summary_of(run, "one")
    with pytest.raises(InputError, match=r"manifests/one.json: is not there; another command may be doing"):
        run.read_json(manifest_name("one"))
    with pytest.raises(InputError, match=r"`four` needs gone.txt, which is not there"):
        run_work(run, Work("four", {}, ("gone.txt",)), {}, Body(run))


def _die_while_writing(uri):
    run = RunDir(uri)
    with run.writing("deep/table.parquet") as path:
        Path(path).write_bytes(b"half of it")
        Path(path).with_name("beside").write_bytes(b"as some libraries do")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_left_is_deleted_and_what_another_writes_is_not(run, tmp_path):
    writer = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(str(tmp_path),))
    writer.start()
    writer.join()
    assert len(list((tmp_path / "deep").iterdir())) == 1
    with run.writing("deep/other.parquet") as path:
        Path(path).write_bytes(b"all of it")
        run_work(run, Work("one", {}), {}, Body(run))
        assert list((tmp_path / "deep").iterdir()) == [Path(path).parent]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["other.parquet"]
    assert run.read_bytes("deep/other.parquet") == b"all of it"


def test_work_of_another_format_is_refused_by_its_stage_and_by_those_that_read_it(run):
    def left():
        run.write_bytes("batches.parquet", b"rows")
        return Outcome(("batches.parquet",), {"batches": 1})

    made, read = Work("compose", {}), Work("capture", {}, reads=("batches.parquet",))
    run_work(run, made, {}, left)
    assert run_work(run, read, {}, Body(run))["skipped"] is False
    manifest = run.read_json("manifests/compose.json")
    assert manifest.pop("format") == 3
    manifest["versions"]["moe-safety"] = "0.1.0"
    run.write_json("manifests/compose.json", manifest)
    told = r"`compose` was run by moe-safety 0\.1\.0, which left format 1 where this one reads 3; .*--force"
    for of in (made, read):
        with pytest.raises(InputError, match=told):
            run_work(run, of, {}, Body(run))
    with pytest.raises(InputError, match=told):
        run_work(run, read, {}, Body(run), force=True)
    for look in (is_finished, summary_of):
        with pytest.raises(InputError, match=told):
            look(run, "compose")
    run_work(run, made, {}, left, force=True)
    assert run_work(run, read, {}, Body(run))["skipped"]
