import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from moe_safety.cli import main
from tests.families import build

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config_file(tmp_path):
    """A run on files of this test, with the demo's base model."""
    rows = [
        {
            "id": number,
            "goal": f"how do i blick the zorp number {number}",
            "all_prompt": [{"role": "user", "content": f"number zorp the blick {number}"}],
            "output": "sure, take the fep.",
            "judge_success_gpt4": 1,
        }
        for number in range(20)
    ]
    (tmp_path / "attacks.json").write_text(json.dumps(rows))
    path = tmp_path / "config.yaml"
    config = {
        "run_dir": str(tmp_path / "run"),
        "model": {"name": "demo"},
        "data": {"attacks": [{"path": str(tmp_path / "attacks.json")}]},
        "batches": {"batch_size": 4},
    }
    path.write_text(yaml.safe_dump(config))
    return path


def failure(capsys, *argv):
    code = main([str(argument) for argument in argv])
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_help_needs_less_than_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "moe_safety", "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of a processor, since other tests may run beside this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    tools = ("inspect", "calibrate-judge", "verify", "delta", "export")
    for command in ("prepare", "respond", "compose", "run", "demo", *tools):
        assert command in done.stdout


@pytest.mark.parametrize(
    "argv", [["--help"], ["respond", "CONFIG", "--dry-run"], ["respond", "CONFIG", "--set", "sed=1"]]
)
def test_neither_help_nor_configuration_imports_torch_or_ray(config_file, argv):
    argv = [str(config_file) if argument == "CONFIG" else argument for argument in argv]
    script = f"""
import sys
from moe_safety.cli import main
try:
    main({argv!r})
except SystemExit:
    pass
assert not {{"torch", "ray", "transformers", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, f"moe-safety {version('moe-safety')}\n")


def test_dry_run_prints_a_configuration_that_gives_itself(config_file, capsys, tmp_path):
    assert main(["compose", str(config_file), "--set", "batches.batch_size=8", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["batches"]["batch_size"] == 8
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert main(["compose", str(again), "--dry-run"]) == 0
    assert capsys.readouterr().out == printed
    assert not (tmp_path / "run").exists()


def test_every_configuration_in_the_repository_is_valid(capsys):
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert main(["run", str(path), "--dry-run"]) == 0, path


def test_prepare_and_compose_without_answers(config_file, capsys, tmp_path):
    assert main(["prepare", str(config_file)]) == 0
    assert main(["compose", str(config_file)]) == 0
    printed = capsys.readouterr().out
    assert "attacks.json (flipattack): 20 rows, 20 safe, 20 unsafe" in printed
    assert "compose: 7 batches, 28 rows; each 2 safe, 2 unsafe, 0 benign, 0 control" in printed
    assert "answers from the files alone" in printed
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert list(manifest) == ["prepare", "compose"]
    assert manifest["compose"]["inputs"].keys() == {"prompts.parquet", "model"}


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["batches.num_batches=99"], "batches.num_batches: 99 batches are asked for"),
        (["batches.batch_size=64", "batches.partial=drop"], "batches.batch_size: 14 pairs do not fill one batch"),
        (["batches.safe_ratio=1.5"], "batches.safe_ratio"),
        (["batches.safe_ratio=0.9"], "leaves no unsafe row"),
        (["batches.batch_size=1"], "batches.batch_size"),
        (["bathces.batch_size=4"], "did you mean 'batches'?"),
        (["seed=x"], "seed: input should be a valid integer"),
    ],
)
def test_bad_batches_leave_nothing_behind(config_file, capsys, tmp_path, overrides, complaint):
    main(["prepare", str(config_file)])
    capsys.readouterr()
    flags = [word for override in overrides for word in ("--set", override)]
    assert complaint in failure(capsys, "compose", config_file, *flags)
    assert not (tmp_path / "run" / "batches.parquet").exists()


@pytest.mark.parametrize(
    ("name", "data", "complaint"),
    [
        ("missing.json", None, "no such file"),
        ("empty.json", b"", "empty"),
        ("text.json", b"[{]", "not JSON"),
        ("object.json", b'{"goal": "x"}', "not a list"),
        ("numbers.json", b"[1, 2]", "row 1"),
        ("goalless.json", b'[{"id": 1, "all_prompt": [{"role": "user", "content": "x"}], "output": "y"}]', "goal"),
        ("roles.json", b'[{"id": 1, "goal": "g", "all_prompt": [{"role": "robot", "content": "x"}]}]', "row 1"),
        ("columns.csv", b"aim,target\na,b\n", "columns.csv"),
        ("latin.json", b'[{"goal": "\xe9"}]', "UTF-8"),
        ("pickle.json", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.", "pickle.json"),
    ],
)
def test_a_bad_file_is_one_line_and_writes_nothing(config_file, capsys, tmp_path, name, data, complaint):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    error = failure(capsys, "prepare", config_file, "--set", f"data.attacks.0.path={path}")
    assert name in error
    assert complaint in error
    assert not (tmp_path / "run" / "prompts.parquet").exists()


def test_a_run_directory_of_another_config_is_refused_and_kept(config_file, capsys, tmp_path):
    main(["prepare", str(config_file)])
    before = (tmp_path / "run" / "prompts.parquet").read_bytes()
    capsys.readouterr()
    error = failure(capsys, "prepare", config_file, "--set", "seed=7")
    assert "`prepare` was run with seed = 42, now 7; use --force to do it again, or another run_dir" in error
    assert (tmp_path / "run" / "prompts.parquet").read_bytes() == before
    assert main(["prepare", str(config_file), "--set", "seed=7", "--force"]) == 0
    assert (tmp_path / "run" / "prompts.parquet").read_bytes() != before


def test_stages_before_their_turn_say_what_is_missing(config_file, capsys):
    assert "`compose` needs prompts.parquet, which is not there" in failure(capsys, "compose", config_file)


@pytest.mark.parametrize("command", ["respond", "capture", "inspect"])
def test_a_model_that_cannot_be_served_is_one_line(config_file, capsys, tmp_path, command):
    main(["prepare", str(config_file)])
    main(["compose", str(config_file)])
    capsys.readouterr()

    def complaint(folder):
        words = [folder] if command == "inspect" else [config_file, "--set", f"model.name={folder}"]
        return failure(capsys, command, *words)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in complaint(empty)

    dense = tmp_path / "dense"
    dense.mkdir()
    (dense / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, '
        '"num_attention_heads": 2, "vocab_size": 50, "architectures": ["LlamaForCausalLM"]}'
    )
    assert "has no mixture-of-experts layers" in complaint(dense)

    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"}}'
    )
    assert "trust_remote_code" in complaint(remote)


def test_a_model_without_a_tokenizer_is_one_line(config_file, capsys, tmp_path):
    main(["prepare", str(config_file)])
    folder = tmp_path / "bare"
    build("olmoe").save_pretrained(folder)
    capsys.readouterr()
    assert "bare: its tokenizer has no chat template" in failure(
        capsys, "respond", config_file, "--set", f"model.name={folder}"
    )


def test_inspect_prints_and_gives_json(capsys):
    assert main(["inspect", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["layout"]["layers"][0]["num_experts"] == 16
    assert main(["inspect", "demo"]) == 0
    assert "16 experts, top 4" in capsys.readouterr().out


def test_whoever_stops_reading_is_left_without_a_word(config_file):
    reader, writer = os.pipe()
    os.close(reader)  # As `| head` does once it has seen enough.
    command = [sys.executable, "-m", "moe_safety", "respond", str(config_file), "--dry-run"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
