"""What comes from outside is never run: no pickle under any name, no code of a model's own."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_safety.checkpoints import apply_delta, verify
from moe_safety.cli import main
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.identify import read_selection
from moe_safety.jobs import Parts, Plan
from moe_safety.models.demo import demo_folder
from moe_safety.models.io import load_model, load_tokenizer, model_fingerprint
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def sprung(tmp_path):
    """The file that shows it."""
    yield tmp_path / "sprung"
    assert not (tmp_path / "sprung").exists(), "a pickle was opened"


@pytest.fixture
def trap(sprung):
    return pickle.dumps(Trap(sprung))


@pytest.fixture
def trapped_table(sprung, tmp_path):
    """Parquet with a column that unpickles itself wherever Ray Data has been imported."""
    import ray.data  # noqa: F401
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    kind = ArrowPythonObjectType()
    column = kind.wrap_array(pa.array([pickle.dumps(Trap(sprung))], kind.storage_type))
    nested = pa.StructArray.from_arrays([column], ["inner"])
    tables = []
    for name, array in (("flat", column), ("nested", nested)):
        pq.write_table(pa.table({"goal": array, "target": array, "prompt_id": array}), tmp_path / f"{name}.parquet")
        tables.append(tmp_path / f"{name}.parquet")
    return tables


def one_line(capfd, *words):
    assert main([str(word) for word in words]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("key", ["data.attacks.0.path", "data.benign.0.path", "data.controls"])
def test_input_files(trap, trapped_table, tmp_path, capfd, key):
    files = [tmp_path / name for name in ("x.json", "x.jsonl", "x.csv", "x.parquet", "x.pkl")]
    for file in files:
        file.write_bytes(trap)
    for number, file in enumerate((*files, *trapped_table)):
        value = f"[{{path: {file}}}]" if key == "data.controls" else file
        flags = ["--set", f"run_dir={tmp_path / str(number)}", "--set", f"{key}={value}"]
        assert one_line(capfd, "prepare", "configs/demo.yaml", *flags).startswith(f"error: {file}")


def test_tables_of_the_run_directory(configured, trap, trapped_table):
    config = configured()
    run = RunDir(config.run_dir)
    for data in (trap, *(file.read_bytes() for file in trapped_table)):
        for name, stage in (("prompts.parquet", "compose"), ("batches.parquet", "capture")):
            kept = run.read_bytes(name)
            run.write_bytes(name, data)
            with pytest.raises(InputError):
                run_one(stage, config)
            run.write_bytes(name, kept)
        run.write_bytes("selection.json", data)
        with pytest.raises(InputError):
            read_selection(run)


def test_plans_parts_and_markers(tmp_path, trap, trapped_table):
    run = RunDir(str(tmp_path / "run"))
    plan = Plan(run, "plan.parquet")
    schema = pa.schema([("n", pa.int64())])
    plan.write([pa.table({"n": [item]}, schema=schema) for item in range(3)], schema, "same")
    parts = Parts(run, "parts", plan)
    for item in range(3):
        parts.commit(item, plan.rows(item), {})
    run.write_bytes(parts.table_name(0), trap)
    run.write_bytes(parts.table_name(1), trapped_table[0].read_bytes())
    run.write_bytes(parts.marker_name(2), trap)
    assert parts.unfinished() == [0, 1, 2]
    for name in (parts.table_name(0), parts.table_name(1)):
        with pytest.raises(InputError, match="part-00000"):
            run.read_table(name)
    for data in (trap, trapped_table[0].read_bytes()):
        run.write_bytes("plan.parquet", data)
        with pytest.raises(InputError, match=r"plan\.parquet"):
            Plan(run, "plan.parquet").rows(0)


def copy_of_the_demo(folder):
    shutil.copytree(demo_folder(), folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json"])
def test_models(tmp_path, trap, name):
    folder = copy_of_the_demo(tmp_path / "model")
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(trap)
    model = ModelConfig(name=str(folder))
    with pytest.raises(InputError) as error:
        load_tokenizer(model) if name == "tokenizer.json" else load_model(model)
    assert "\n" not in str(error.value)
    assert model_fingerprint(model)


def test_deltas_and_checkpoints(tmp_path, trap):
    folder = copy_of_the_demo(tmp_path / "model")
    delta = tmp_path / "delta.safetensors"
    delta.write_bytes(trap)
    with pytest.raises(InputError, match=r"delta\.safetensors"):
        apply_delta(folder, delta, tmp_path / "out")
    broken = copy_of_the_demo(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(trap)
    with pytest.raises(InputError):
        verify(folder, broken, [])


def test_a_model_s_own_code_is_not_run(tmp_path, sprung):
    folder = copy_of_the_demo(tmp_path / "model")
    (folder / "own.py").write_text(f"open({str(sprung)!r}, 'w')\nclass Own: pass\n")
    for name, auto in (
        ("config.json", {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["own.Own", None]}),
    ):
        stored = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(stored | {"auto_map": auto}))
    model = ModelConfig(name=str(folder))
    assert not model.trust_remote_code
    load_model(model)
    load_tokenizer(model)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(InputError, match="trust_remote_code is off"):
        load_model(model)


def test_no_name_leads_out_of_the_run_directory(tmp_path, capfd):
    for name in ("../out", "/etc/out", "a/../../out"):
        with pytest.raises(InputError, match="not a path inside"):
            RunDir(str(tmp_path)).write_bytes(name, b"")
    line = one_line(
        capfd, "prepare", "configs/demo.yaml", "--set", "evaluate.output_name=../../out", "--set", f"run_dir={tmp_path}"
    )
    assert "evaluate.output_name" in line
    assert os.listdir(tmp_path) == []


def test_a_password_in_a_uri_is_refused_and_not_repeated(capfd):
    for key, value in (
        ("run_dir", "s3://key:hidden-word@bucket/run"),
        ("model.name", "s3://key:hidden-word@bucket/model"),
        ("data.attacks.0.path", "abfs://c@a.dfs.core.windows.net/x?sv=1&sig=hidden-word"),
        ("run_dir", "abfs://c@a.dfs.core.windows.net/x?tenant_id=1&client_secret=hidden-word"),
    ):
        line = one_line(capfd, "prepare", "configs/demo.yaml", "--set", f"{key}={value}")
        assert key in line
        assert "password" in line
        assert "hidden-word" not in line


def test_nothing_here_unpickles():
    """None of the program's own: DeepSpeed alone unpickles, the training checkpoints that it wrote."""
    calls = ("pickle.load", "torch.load(", "allow_pickle=True", "weights_only=False")
    texts = {file.as_posix(): file.read_text() for file in Path("moe_safety").rglob("*.py")}
    assert "load_checkpoint(" in texts["moe_safety/train/engines/deepspeed.py"]
    assert [name for name, text in texts.items() if any(call in text for call in calls)] == []
