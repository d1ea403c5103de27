"""The run directory on S3: the same promises as on a disk, and a lock without `flock`."""

import hashlib
import json
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from pyarrow import fs

from moe_safety.cli import main
from moe_safety.errors import InputError, RunError
from moe_safety.models.io.save import save_model, save_rest, save_weights
from moe_safety.rundir import Outcome, RunDir, Work, digests, fetched, run_work, store_lock
from tests.checkpoints.pairs import files_of, save_base, save_tuned
from tests.families import build
from tests.objectstore import SECRETS, serving


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        yield uri


@pytest.fixture
def uri(bucket, request):
    return bucket.replace("NAME", request.node.name)


@pytest.fixture
def run(uri):
    return RunDir(uri)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(store_lock, "BEAT", 0.1)
    monkeypatch.setattr(store_lock, "PATIENCE", 1.0)


def test_files_tables_and_folders(run):
    table = pa.table({"a": [1, 2, 3]})
    run.write_table("deep/er/t.parquet", table)
    run.write_json("deep/j.json", {"k": ["é", 1.5]})
    assert run.read_table("deep/er/t.parquet", ["a"]).equals(table)
    assert run.read_json("deep/j.json") == {"k": ["é", 1.5]}
    assert (run.names("deep"), run.files("deep")) == (["deep/j.json"], ["deep/er/t.parquet", "deep/j.json"])
    assert (run.names("nowhere"), run.files("nowhere"), run.exists("deep")) == ([], [], False)
    run.copy("deep/j.json", "copy.json")
    assert run.digest("copy.json") == run.digest("deep/j.json")

    with run.filling("model") as folder:
        (folder / "config.json").write_text("{}")
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_bytes(b"w" * 100_000)
    assert run.files("model") == ["model/config.json", "model/sub/weights"]
    with run.reading("model") as folder:
        assert (folder / "sub" / "weights").read_bytes() == b"w" * 100_000
    for folder in ("model", "nowhere"):
        run.delete_folder(folder)
    run.delete("nothing")
    assert run.files("model") == []
    assert run.exists("deep/j.json")


def test_a_failing_write_leaves_the_old_file(run):
    run.write_bytes("x", b"old")
    with pytest.raises(ZeroDivisionError), run.writing("x") as path, open(path, "w") as file:
        file.write(f"half{1 / 0}")
    assert run.read_bytes("x") == b"old"


def test_a_name_opens_from_anywhere(run):
    run.write_bytes("sub/x", b"1")
    assert RunDir(run.uri_of("sub")).read_bytes("x") == b"1"
    assert RunDir(RunDir("/tmp/somewhere").uri_of("sub")).root == "/tmp/somewhere/sub"


def test_what_cannot_be_opened_is_one_line_without_secrets(uri):
    missing = RunDir(uri.replace("moe-bucket", "no-bucket"))
    with pytest.raises(RunError, match="NO_SUCH_BUCKET"):
        missing.write_bytes("x", b"")
    for wrong in (uri.replace("s3://", "s3://key:hidden@"), "abfs://c@a.dfs.core.windows.net/p?sv=1&sig=hidden"):
        with pytest.raises(InputError, match="run_dir: the URI holds a password") as error:
            RunDir(wrong)
        assert "hidden" not in str(error.value)
    with pytest.raises(InputError, match="cannot be opened: Unrecognized filesystem") as error:
        RunDir("nope://bucket/run")
    assert "\n" not in str(error.value)


def test_a_run_directory_carries_no_secret_to_workers(run):
    from ray import cloudpickle

    data = cloudpickle.dumps(run)
    assert not any(secret.encode() in data for secret in SECRETS.values())


def test_a_model_is_fetched_once_and_anew_where_it_changed(run, tmp_path):
    with run.filling("m") as folder:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"1" * 1000)
    first = fetched(run.uri_of("m"), tmp_path / "cache")
    assert {file.name: file.stat().st_size for file in first.iterdir()} == {"config.json": 2, "model.safetensors": 1000}
    (first / "kept").touch()
    assert fetched(run.uri_of("m"), tmp_path / "cache") == first
    assert (first / "kept").exists(), "it was not fetched again"
    time.sleep(1)  # S3 tells times in seconds.
    run.write_bytes("m/model.safetensors", b"2" * 1000)
    second = fetched(run.uri_of("m"), tmp_path / "cache")
    assert (second / "model.safetensors").read_bytes() == b"2" * 1000
    copies = [each.name for each in (tmp_path / "cache").iterdir() if each.is_dir()]
    assert sorted(copies) == sorted([first.name, second.name])
    with pytest.raises(InputError, match="holds no files"):
        fetched(run.uri_of("nowhere"), tmp_path / "cache")


def _hold(uri, started, release):
    store_lock.BEAT, store_lock.PATIENCE = 0.1, 1.0
    with store_lock.lease(RunDir(uri), "one"):
        started.set()
        release.wait(60)


@pytest.mark.usefixtures("quick")
def test_two_commands_on_one_stage_but_not_on_two(run, uri):
    def body():
        return Outcome(outputs=(), summary={})

    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(uri, started, release))
    holder.start()
    assert started.wait(60)
    with pytest.raises(RunError, match=f"`one` is being run already by process {holder.pid} on "):
        run_work(run, Work("one", {}), {}, body)
    run_work(run, Work("other", {}), {}, body)

    holder.kill()  # Its claim stays, and stands still.
    holder.join()
    assert len(run.files("locks/one")) == 1
    assert not run_work(run, Work("one", {}), {}, body)["skipped"]
    assert run.files("locks") == []


@pytest.mark.usefixtures("quick")
def test_of_many_at_once_at_most_one_goes_on(run):
    inside, most, refused = [], [], []

    def contend():
        try:
            with store_lock.lease(run, "one"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.5)
                inside.pop()
        except (RunError, OSError) as error:  # a store that gives up under the rush lets nobody in either
            refused.append(str(error))

    contenders = [threading.Thread(target=contend) for _ in range(6)]
    for each in contenders:
        each.start()
    for each in contenders:
        each.join()
    assert max(most, default=1) == 1
    assert len(refused) == 6 - len(most)
    with store_lock.lease(run, "one"):
        pass


@pytest.mark.usefixtures("quick")
def test_whoever_lost_the_lock_is_told(run):
    def hold():
        with store_lock.lease(run, "one"):
            (claim,) = run.names("locks/one")
            assert json.loads(run.read_bytes(claim))["pid"]
            run.delete(claim)
            time.sleep(1)

    with pytest.raises(RunError, match="another command took `one` over"):
        hold()


def test_replicas_of_a_host_fetch_a_model_once(run, tmp_path, monkeypatch):
    with run.filling("n") as folder:
        (folder / "model.safetensors").write_bytes(b"1" * 1000)
    real, asked = RunDir.fetch, []

    def slowly(self, name, target):
        asked.append(name)
        time.sleep(0.2)
        real(self, name, target)

    monkeypatch.setattr(RunDir, "fetch", slowly)
    with ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda _: fetched(run.uri_of("n"), tmp_path / "cache"), range(4)))
    assert len(set(copies)) == 1
    assert asked == ["model.safetensors"]


def test_a_large_object_is_read_once_and_another_one_anew(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_LARGE", 1000)
    notes = tmp_path / "cache" / "digests"
    for turn, letter in enumerate((b"1", b"2")):
        run.write_bytes("x", letter * 1000)
        expected = hashlib.sha256(letter * 1000).hexdigest()
        assert [run.digest("x") for _ in range(2)] == [expected] * 2, turn
    (note,) = notes.iterdir()
    note.write_text(note.read_text().replace(expected, "remembered"))
    assert run.digest("x") == "remembered", "it is not read again"
    run.link("x", "copy")
    assert run.digest("copy") == "remembered", "nor is its copy read"
    run.write_bytes("small", b"3" * 999)
    run.digest("small")
    assert len(list(notes.iterdir())) == 2


def test_workers_write_a_model_together(run, uri, tmp_path):
    model = build("olmoe")
    save_model(model, tmp_path / "alone", shard=20_000)
    for rank in range(2):
        save_weights(model, uri, rank=rank, of=2, shard=20_000)
    save_rest(model, uri, shard=20_000)
    alone = {file.name: file.read_bytes() for file in (tmp_path / "alone").iterdir()}
    names = [info.base_name for info in run.filesystem.get_file_info(fs.FileSelector(run.root))]
    assert {name: run.read_bytes(name) for name in names} == alone


def test_a_delta_goes_there_and_back_on_a_store(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    base = save_base("olmoe", tmp_path / "base")
    with run.filling("tuned") as folder:
        save_tuned(base, folder, [(0, 3)], [1])
    tuned, delta, applied, reverted = map(run.uri_of, ("tuned", "d.safetensors", "applied", "reverted"))
    for words in (["extract", base, tuned, delta], ["apply", base, delta, applied], ["revert", tuned, delta, reverted]):
        assert main(["delta", *map(str, words)]) == 0
    with run.reading("tuned") as one, run.reading("applied") as other, run.reading("reverted") as again:
        assert files_of(other) == files_of(one)
        assert files_of(again) == files_of(base)
    assert main(["delta", "apply", str(base), delta, applied]) == 2, "it is there already"
