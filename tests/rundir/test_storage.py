import errno
import json
import os
import resource

import pyarrow as pa
import pytest

from moe_safety.errors import InputError, RunError
from moe_safety.rundir import RunDir


@pytest.fixture(params=["folder", "uri"])
def run(request, tmp_path):
    return RunDir(str(tmp_path) if request.param == "folder" else f"file://{tmp_path}")


def test_what_is_written_is_read(run):
    table = pa.table({"a": [1, 2, 3]})
    run.write_table("deep/er/t.parquet", table)
    run.write_json("j.json", {"k": ["é", 1.5]})
    assert run.read_table("deep/er/t.parquet").equals(table)
    assert run.read_json("j.json") == {"k": ["é", 1.5]}
    assert run.names("deep/er", ".parquet") == ["deep/er/t.parquet"]
    assert run.names("nowhere") == []


def test_what_could_not_be_measured_is_null(run):
    """JSON knows no NaN and no infinity, and who reads the file elsewhere may not either."""
    run.write_json("j.json", {"loss": float("nan"), "each": [1.5, (float("inf"), -float("inf"))], "n": 3, "ok": True})
    found = json.loads(run.read_bytes("j.json"), parse_constant=lambda name: pytest.fail(name))
    assert found == {"loss": None, "each": [1.5, [None, None]], "n": 3, "ok": True}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "", "a\\..\\b"])
def test_no_path_leaves_the_run_directory(run, name):
    with pytest.raises(InputError, match="not a path inside"):
        run.write_bytes(name, b"")


def test_a_failing_write_leaves_the_old_file_and_nothing_else(run, tmp_path):
    run.write_bytes("x", b"old")
    with pytest.raises(ZeroDivisionError), run.writing("x") as path, open(path, "w") as file:
        file.write(f"half{1 / 0}")
    assert run.read_bytes("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_new_file_takes_the_place_of_the_old_one_at_once(run, tmp_path):
    """Who has the old file open goes on reading it: nothing is ever written into a file that stands."""
    run.write_bytes("x", b"old")
    with open(tmp_path / "x", "rb") as reader:
        run.write_bytes("x", b"new")
        assert reader.read() == b"old"
    assert run.read_bytes("x") == b"new"


def test_a_full_disk_leaves_the_old_file(run, tmp_path, monkeypatch):
    run.write_bytes("x", b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device; nothing was overwritten"):
        run.write_bytes("x", b"new")
    assert run.read_bytes("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_kernel_s_own_refusal_to_write(tmp_path):
    run = RunDir(str(tmp_path))
    run.write_bytes("x", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(RunError, match="File too large; nothing was overwritten"):
            run.write_bytes("x", b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.read_bytes("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_is_made_while_it_is_listed_is_listed_again(run, monkeypatch):
    """pyarrow looks twice, and says that it is not there if it came in between."""
    run.write_bytes("parts/one.json", b"{}")
    real, looks = run.filesystem, []

    class Late:
        def get_file_info(self, selector):
            looks.append(selector)
            if len(looks) == 1:
                raise FileNotFoundError("Cannot list directory")
            return real.get_file_info(selector)

    monkeypatch.setattr(run, "filesystem", Late())
    assert run.names("parts") == ["parts/one.json"]
    assert len(looks) == 2
