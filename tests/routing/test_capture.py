import os
import shutil
import subprocess
import sys
import textwrap
import time
from functools import partial

import pyarrow as pa
import pytest
import torch

from moe_safety.batches.compose import compose
from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.identify.identify import identify
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.pipeline import run_one
from moe_safety.routing.capture import capture
from moe_safety.routing.reader import build_reader
from moe_safety.routing.table import layout_of, matrix
from moe_safety.rundir import RunDir
from tests.routing.faulty import Faulty

pytestmark = pytest.mark.usefixtures("ray_here")

PACKING = "capture.max_tokens_per_forward=300"


@pytest.fixture
def packed(configured):
    """Configurations with many small work items."""
    return lambda *overrides, **options: configured(PACKING, *overrides, **options)


def read(config):
    """The routing tables as one, in the order of prompts' ids."""
    run = RunDir(config.run_dir)
    return pa.concat_tables([run.read_table(name) for name in run.names("routing", ".parquet")]).sort_by("prompt_id")


@pytest.fixture(scope="module")
def reference(composed, tmp_path_factory):
    """The whole plan handled in this process, without Ray."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    shutil.copytree(composed, folder)
    config = load_config("configs/demo.yaml", [f"run_dir={folder}", "data.max_samples=60", PACKING])
    capture(config)
    plan = Plan(RunDir(config.run_dir), "plans/capture.parquet")
    reader = build_reader(config.model, 0)
    torch.set_num_threads(1)  # As actors do; more would round differently.
    return pa.concat_tables([reader(plan.rows(item), {}) for item in range(len(plan))]).sort_by("prompt_id")


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_tables_are_bit_identical_for_any_number_of_actors(packed, reference, replicas):
    config = packed(f"capture.replicas={replicas}")
    summary = capture(config)["summary"]
    assert summary["items"] > 8
    assert read(config).equals(reference)
    assert summary["tokens"] == sum(reference["tokens"].to_pylist())


def test_the_seconds_of_a_stage_add_up_and_replicas_tell_theirs(packed):
    config, began = packed("capture.replicas=1"), time.perf_counter()
    told = run_one("capture", config)["timings"]
    whole = time.perf_counter() - began
    assert 0.8 * whole <= told["seconds"] <= whole
    assert sum(told["driver"].values()) == pytest.approx(told["seconds"])
    assert told["driver"]["waiting"] > 0
    assert {"computing", "writing", "hashing"} <= told["replicas"].keys()
    assert sum(told["replicas"].values()) <= whole


def test_another_packing_gives_the_same_counts(packed, reference):
    config = packed("capture.max_tokens_per_forward=1000")
    capture(config)
    other = read(config)
    assert other.select(["prompt_id", "tokens", "counts"]).equals(reference.select(["prompt_id", "tokens", "counts"]))
    assert abs(matrix(other, "weights") - matrix(reference, "weights")).max() < 1e-5


def test_what_a_row_says(packed, reference):
    layout = layout_of(reference.schema)
    assert layout.shape == (4, 16)
    per_layer = matrix(reference, "counts").reshape(-1, *layout.shape).sum(axis=2)
    tokens = reference["tokens"].to_numpy()
    assert (per_layer == 4 * tokens[:, None]).all(), "every counted token goes to top-k experts of every layer"
    assert tokens.min() > 0


@pytest.mark.parametrize("tokens", ["prompt", "all"])
def test_which_tokens_are_counted(packed, reference, tokens):
    config = packed(f"capture.tokens={tokens}")
    capture(config)
    counted, answers = read(config)["tokens"].to_numpy(), reference["tokens"].to_numpy()
    if tokens == "all":
        prompts = read_prompt_lengths(config)
        assert (counted == prompts + answers).all()
    else:
        assert (counted == read_prompt_lengths(config)).all()


def read_prompt_lengths(config):
    from moe_safety.models.io import load_chat

    chat = load_chat(config.model)
    rows = {row["prompt_id"]: row for row in RunDir(config.run_dir).read_table("batches.parquet").to_pylist()}
    return pa.array([len(chat.prompt(rows[key]["messages"])) for key in sorted(rows)]).to_numpy()


@pytest.mark.parametrize("deed", ["kill", "memory"])
def test_faults_in_one_item_change_nothing(packed, reference, tmp_path, deed):
    config = packed()
    capture(config)
    run = RunDir(config.run_dir)
    plan = Plan(run, "plans/capture.parquet")
    victim = plan.rows(1)["prompt_id"][0].as_py()
    parts = Parts(run, "again", plan)
    report = run_job(
        Job(plan, parts, partial(Faulty, config.model, str(tmp_path / "flag"), victim, deed), config.capture)
    )
    again = pa.concat_tables(parts.tables()).sort_by("prompt_id")
    assert again.select(["prompt_id", "tokens", "counts"]).equals(reference.select(["prompt_id", "tokens", "counts"]))
    if deed == "kill":
        assert (tmp_path / "flag").exists()
        assert again.equals(reference)
    else:
        assert report.notes["1"]["halved"] > 0


def test_tokens_are_kept_beside_the_counts_where_asked(packed, reference):
    config = packed("capture.per_token=true")
    run, summary = RunDir(config.run_dir), capture(config)["summary"]
    assert read(config).equals(reference)
    assert len(summary["token_files"]) == summary["items"]
    kept = {name: run.read_bytes(name) for name in summary["token_files"]}
    tables = [run.read_table(name) for name in kept]
    assert sum(len(table) for table in tables) == 4 * sum(map(len, read_rows(config))), "one for each layer"
    assert {len(experts) for table in tables for experts in table["experts"].to_pylist()} == {4}
    assert capture(config)["skipped"]
    victim = summary["token_files"][2]
    run.write_bytes(victim, kept[victim][:100])
    assert not capture(config)["skipped"]
    assert {name: run.read_bytes(name) for name in kept} == kept
    again = packed(name="again")
    with pytest.raises(InputError, match=r"capture.per_token = True, now False"):
        capture(again.model_copy(update={"run_dir": config.run_dir}))
    capture(again.model_copy(update={"run_dir": config.run_dir}), force=True)
    assert run.files("routing_tokens") == []


def read_rows(config):
    """Every row of the plan, as tokens."""
    plan = Plan(RunDir(config.run_dir), "plans/capture.parquet")
    return [row for item in range(len(plan)) for row in plan.rows(item)["tokens"].to_pylist()]


def test_a_damaged_part_is_read_again(packed, reference):
    config = packed()
    capture(config)
    assert capture(config)["skipped"]
    run = RunDir(config.run_dir)
    name = run.names("routing", ".parquet")[3]
    whole = run.read_bytes(name)
    run.write_bytes(name, whole[: len(whole) // 2])
    assert not capture(config)["skipped"]
    assert run.read_bytes(name) == whole
    assert read(config).equals(reference)


@pytest.mark.soak
def test_a_killed_driver_goes_on_where_it_stopped(packed, reference):
    config = packed("capture.replicas=1", "capture.max_tokens_per_forward=60")
    script = f"""
    from moe_safety.everything import load_config
    from moe_safety.routing.capture import capture
    flags = ["run_dir={config.run_dir}", "data.max_samples=60", "capture.replicas=1"]
    capture(load_config("configs/demo.yaml", flags + ["capture.max_tokens_per_forward=60"]))
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    run = RunDir(config.run_dir)
    while len(run.names("routing/_done")) < 3:
        assert driver.poll() is None, "the driver was to be killed in the middle"
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    time.sleep(3)
    stood = {name: os.stat(run.path(name)).st_mtime_ns for name in run.names("routing", ".parquet")}
    done = len(run.names("routing/_done"))
    assert done < capture(config)["summary"]["items"], "something was left to do"
    assert sum(os.stat(run.path(name)).st_mtime_ns == then for name, then in stood.items()) >= done
    counts = ["prompt_id", "tokens", "counts"]
    assert read(config).select(counts).equals(reference.select(counts))


def test_prompts_without_an_answer_are_kept_and_count_nothing(packed, capsys):
    config = packed()
    run = RunDir(config.run_dir)
    table = run.read_table("batches.parquet")
    rows = table.to_pylist()
    for row in rows[:2]:
        row["answer_tokens"] = []
    run.write_table("batches.parquet", pa.Table.from_pylist(rows, schema=table.schema))
    assert capture(config)["summary"]["uncounted"] == 2
    assert "2 prompts have no counted token" in capsys.readouterr().out
    by_id = {row["prompt_id"]: row for row in read(config).to_pylist()}
    assert by_id[rows[0]["prompt_id"]]["tokens"] == 0
    assert not any(by_id[rows[0]["prompt_id"]]["counts"])


def test_no_batches_is_an_error(packed):
    config = packed()
    run = RunDir(config.run_dir)
    run.write_table("batches.parquet", run.read_table("batches.parquet").slice(0, 0))
    with pytest.raises(InputError, match="holds no batch"):
        capture(config)


def test_batches_formed_anew_of_the_same_prompts_need_no_new_counts(packed):
    # Whole batches alone: a smaller one at the end would bring harmless prompts of its own.
    config = packed("batches.partial=drop")
    compose(config, force=True)
    capture(config)
    again = [
        "batches.partial=drop",
        "batches.batch_size=8",
        "batches.benign_per_batch=2",
        "batches.control_per_batch=2",
    ]
    flags = [f"run_dir={config.run_dir}", "data.max_samples=60", PACKING, *again]
    smaller = load_config("configs/demo.yaml", flags)
    assert compose(smaller, force=True)["summary"]["batches"] == 10
    assert capture(smaller)["skipped"]
    identify(smaller)
