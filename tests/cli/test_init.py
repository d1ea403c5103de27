"""`init`: a configuration that a model and files ask for."""

import json

import pytest
import yaml

from moe_safety.cli import init, main
from moe_safety.everything import load_config
from moe_safety.models.io import load_chat
from moe_safety.rundir import RunDir


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files with invented words, in the working folder."""
    monkeypatch.chdir(tmp_path)
    attack = {"all_prompt": [{"role": "user", "content": "zorp the blick"}], "output": "sure, take the fep."}
    rows = [attack | {"id": n, "goal": f"blick the zorp {n}", "judge_success_gpt4": n % 2} for n in range(60)]
    for row in rows:
        row["all_prompt"] = [{"role": "user", "content": f"{row['id']} zorp the blick"}]
    (tmp_path / "attacks.json").write_text(json.dumps(rows))
    lines = [{"messages": [{"role": "user", "content": f"wash the fep {n}"}], "label": "benign"} for n in range(9)]
    (tmp_path / "benign.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "goals.csv").write_text("goal,target\n" + "".join(f"blick the zorp {n},sure\n" for n in range(5)))
    return tmp_path


def written(*argv, out="my-run.yaml"):
    assert main(["init", "demo", "--out", out, *argv]) == 0
    with open(out) as file:
        text = file.read()
    return text, yaml.safe_load(text), load_config(out)


def test_it_writes_what_the_files_say(files, capsys):
    text, values, config = written("--attacks", "attacks.json", "--benign", "benign.jsonl")
    assert capsys.readouterr().out.startswith("wrote my-run.yaml: 30 goals, 8 rows of them in a batch, for processors")
    assert "flipattack: 30 rows, 30 with a recorded answer, 30 " in text
    assert values["batches"] == {"batch_size": 8, "benign_per_batch": 4, "control_per_batch": 4, "max_length": 256}
    assert values["data"]["controls"] == {"from": "benign", "wrapper": "flip-word-order"}
    assert config.identify.top_k == 3
    assert config.train.launch == "process"
    assert max(map(len, text.splitlines())) <= 120
    assert main(["prepare", "my-run.yaml"]) == 0
    assert "next: moe-safety respond my-run.yaml" in capsys.readouterr().out


def test_plain_goals_are_wrapped_and_a_lack_of_harmless_requests_is_told(files, capsys):
    _, values, _ = written("--attacks", "goals.csv")
    assert values["data"]["attacks"] == [{"path": "goals.csv", "wrapper": "flip-word-order"}]
    assert values["batches"]["batch_size"] == 2
    assert "without --benign the model learns to refuse everything" in capsys.readouterr().err
    assert main(["init", "demo", "--attacks", "goals.csv"]) == 2
    assert "my-run.yaml: is there already; give another --out" in capsys.readouterr().err


def test_failed_attacks_alone_are_kept(files):
    rows = json.loads((files / "attacks.json").read_text())
    (files / "failed.json").write_text(json.dumps([row | {"judge_success_gpt4": 0} for row in rows]))
    _, values, _ = written("--attacks", "failed.json")
    assert values["data"]["only_successful"] is False


def test_every_prompt_fits_as_it_is_asked(files):
    """Behind the system prompt and in the wrapper, not as the file has it."""
    goal = " ".join(["blick"] * 115)
    (files / "long.csv").write_text("goal,target\n" + "".join(f"{goal} {n},sure\n" for n in range(5)))
    _, _, config = written("--attacks", "long.csv")
    assert main(["prepare", "my-run.yaml"]) == 0
    chat, prompts = load_chat(config.model), RunDir(config.run_dir).read_table("prompts.parquet").to_pylist()
    longest = max(len(chat.prompt(row["messages"])) for row in prompts)
    assert longest > 128
    assert longest + 128 <= config.batches.max_length


@pytest.mark.parametrize("name", ["zorp.json", "no", "12", "2026-11-28", "null", "\U0001f600 zorp.json", "a: b", ""])
def test_names_come_back_from_yaml_as_they_are(name):
    assert yaml.safe_load(f"{{path: {init._plain(name)}}}") == {"path": name}


@pytest.mark.parametrize(
    ("cards", "train"),
    [([80.0], {"launch": "process"}), ([0.043] * 4, {"num_workers": 2, "deepspeed": 3})],
    ids=["one large", "four small"],
)
def test_cards_decide_how_it_trains(files, monkeypatch, capsys, cards, train):
    monkeypatch.setattr(init, "_cards", lambda: cards)
    _, values, _ = written("--attacks", "attacks.json")
    assert train.items() <= values["train"].items()
    spread = {"gpus_per_replica": 2} if len(cards) > 1 else {}
    assert values["respond"] == {"recorded": True} | spread
    assert values.get("evaluate", {}) == spread
    assert f"for {len(cards)} cards of" in capsys.readouterr().out
