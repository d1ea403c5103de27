"""`init`: a configuration that a model and files ask for."""

import json
import sys
from types import SimpleNamespace

import pytest
import yaml

from moe_safety.cli import host, init, main
from moe_safety.everything import load_config
from moe_safety.models.inspection.memory_forecast import Load, training_memory
from moe_safety.models.io import load_chat
from moe_safety.rundir import RunDir
from tests.models.inspection.test_memory_forecast import sizes_of


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
    assert config.respond.recorded
    jobs = config.respond, config.capture, config.effects, config.evaluate
    assert {job.max_tokens_per_forward for job in jobs} == {4096}, "work for every core"
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["init", "demo", "--attacks", "atacks.json"], "atacks.json: no such file"),
        (["init", "./my-modle", "--attacks", "attacks.json"], "./my-modle: not a folder, and not found on the hub"),
        (
            ["init", "demo", "--attacks", "attacks.json", "--out", "no/x.yaml"],
            "no/x.yaml: cannot be written: there is no",
        ),
        (["inspect", "./my-modle"], "./my-modle: not a folder, and not found on the hub"),
        (["inspect", "."], ".: no config.json"),
    ],
)
def test_what_is_not_there_is_told_before_transformers_is_imported(files, given, told, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "moe_safety.models.inspection.inspect", None)
    assert main(given) == 2
    assert told in capsys.readouterr().err


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


def found_of(shape, cards):
    """What `init` finds: a model of a real shape, and files with rows of real length."""
    source = SimpleNamespace(rows=[SimpleNamespace(goal=str(n)) for n in range(150)])
    inspection = SimpleNamespace(sizes=sizes_of(shape), load=Load(chosen=51))
    return init.Found(SimpleNamespace(name=shape), inspection, [source], [source], [], True, 640, cards, host=64.0)


@pytest.mark.parametrize(
    ("shape", "cards", "cut"),
    [
        ("olmoe-1b-7b", [48.0], True),
        ("olmoe-1b-7b", [100.0], False),
        ("qwen3-30b-a3b", [80.0] * 4, True),
        ("olmoe-1b-7b", [], True),
    ],
    ids=["48 GB", "100 GB", "four of 80 GB", "no card"],
)
def test_a_backward_pass_fits_the_card(shape, cards, cut):
    """24 rows of 768 tokens at once would take more than a card of 48 GB."""
    found = found_of(shape, cards)
    train = yaml.safe_load("\n".join(init._train(found)))["train"]
    tokens, whole = train["micro_batch_tokens"], 24 * 768

    def takes(tokens):
        load = Load(chosen=51, tokens=tokens, checkpointing=train.get("checkpointing", False))
        spread = train.get("deepspeed", 0), train.get("num_workers", 1)
        return training_memory(sizes_of(shape), load, "selective", *spread).total

    room = 0.9e9 * min(cards, default=64.0) - (not cards) * 1e9
    assert takes(tokens) <= room
    assert tokens >= 768, "a row cannot be cut"
    assert (takes(whole) > room) is (tokens < whole) is cut
    assert takes(min(tokens + 512, whole)) > room or not cut, "no smaller than it has to be"


def test_what_trains_every_parameter_is_compared_where_it_fits(files):
    large = found_of("olmoe-1b-7b", [141.0])
    assert not list(init._compare(large))
    whole, one = (training_memory(sizes_of("olmoe-1b-7b"), Load(tokens=n), "full", 0, 1).total for n in (24 * 768, 768))
    assert one < 0.9 * 141e9 < whole
    assert 768 <= large.pass_tokens < 24 * 768, "and the passes are as short as it asks"
    arms = yaml.safe_load("\n".join(init._compare(found_of("olmoe-1b-7b", [48.0]))))["compare"]["arms"]
    assert "baseline" not in arms
    assert {"base", "selective-causal", "random-layer-matched"} <= {*arms}
    assert "compare" not in written("--attacks", "attacks.json")[1]


@pytest.mark.parametrize(
    ("told", "fast"),
    [
        ("flags\t: sse avx2 avx512f", False),
        ("flags\t: avx2 avx512_bf16", True),
        ("Features\t: fp bf16", True),
        ("", True),
    ],
)
def test_a_processor_that_imitates_bfloat16_is_told_of(monkeypatch, told, fast):
    monkeypatch.setattr(host, "Path", lambda name: SimpleNamespace(read_text=lambda: f"processor: 0\n{told}\n"))
    assert host.multiplies_bfloat16() is fast
    small, large = found_of("olmoe-1b-7b", []), found_of("olmoe-1b-7b", [80.0])
    for found in (small, large):
        found.inspection.dtype = "bfloat16"
    assert any("slow in bfloat16" in warning for warning in small.warnings) is not fast
    assert not large.warnings
    small.inspection.dtype = "float32"
    assert not any("slow in bfloat16" in warning for warning in small.warnings)


def test_cards_that_are_elsewhere_are_told(files):
    _, values, _ = written("--attacks", "attacks.json", "--cards", "4x0.043")
    assert values["train"]["num_workers"] == 2
    with pytest.raises(SystemExit, match="2"):
        main(["init", "demo", "--attacks", "attacks.json", "--out", "x.yaml", "--cards", "many"])


@pytest.mark.soak
def test_what_it_writes_runs(files, capsys):
    written("--attacks", "demo:attacks.json", "--benign", "demo:benign.jsonl")
    # Three epochs at the rate of a real model teach the demo model nothing, but all of it runs.
    assert main(["run", "my-run.yaml", "--set", "compare.arms=[base, selective-causal]"]) == 0
    assert "look at: " in capsys.readouterr().out


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
