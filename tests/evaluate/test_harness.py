import json
import shutil
from importlib.util import find_spec

import pytest
import yaml

from moe_safety.config import EvaluateConfig, ModelConfig, load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.examiner import examiner
from moe_safety.evaluate.harness import Harness, check_harness
from moe_safety.evaluate.plan import TASKS
from moe_safety.generation import Limits, Opening
from moe_safety.generation.items import make_item
from moe_safety.models.demo import language
from moe_safety.models.io import load_chat

DEMO = ModelConfig(name="demo")

installed = pytest.mark.skipif(find_spec("lm_eval") is None, reason="the extra `eval` is not installed")


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Two tasks in the demo's words, as files: which ending is likelier, and what is generated."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    asked = language.requests(False)[:7]
    rows = [{"q": one.text, "a": one.answer} for one in asked]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "{{q}}",
        "target_delimiter": " ",
    }
    ends = {"output_type": "multiple_choice", "doc_to_choice": "{{[a, 'i am sorry']}}", "doc_to_target": 0}
    mean = {"aggregation": "mean", "higher_is_better": True}
    says = {
        "output_type": "generate_until",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24},
        "filter_list": [{"name": "short", "filter": [{"function": "take_first"}]}],
    }
    files = []
    for name, own, metric in (("endings", ends, "acc"), ("sayings", says, "exact_match")):
        files.append(tmp_path / f"{name}.yaml")
        task = shared | own | {"task": name, "metric_list": [{"metric": metric} | mean]}
        files[-1].write_text(yaml.safe_dump(task))
    return files


def settings_of(files, **more):
    return EvaluateConfig(lm_eval_tasks=list(map(str, files)), max_tokens_per_forward=1024, **more)


def config_of(*files):
    return load_config("configs/demo.yaml", [f"evaluate.lm_eval_tasks={list(map(str, files))}"])


def parts_of(settings, chat, size, model=DEMO):
    """The responses of a replica that is given so many requests at a time."""
    requests = Harness(settings, language.SYSTEM).requests(chat)
    handler = examiner(Opening("transformers", model, Limits(12), 1, {}), (), settings)
    for start in range(0, len(requests), size):
        yield handler(make_item(TASKS, requests[start : start + size]), {})


@installed
def test_tasks_are_asked_in_the_models_own_form_and_nothing_is_cut(tasks):
    chat, settings = load_chat(DEMO), settings_of(tasks, lm_eval_fewshot=1, lm_eval_limit=3)
    found = Harness(settings, language.SYSTEM).requests(chat)
    assert [json.loads(one["prompt_id"])[0] for one in found] == ["loglikelihood"] * 6 + ["generate_until"] * 3
    context, ending = json.loads(found[0]["prompt_id"])[1]
    question = language.requests(False)[0]
    said, rest = context.split(question.text)
    assert (said + question.text + rest).endswith(chat.render(language.plain(question)[1:]))
    assert language.SYSTEM in said
    assert "<|assistant|>sure, take the" in said, "an example is a turn before it"
    assert ending.strip() == question.answer
    assert {one["size"] for one in found[:1]} == {len(chat.tokenizer(context + ending, add_special_tokens=False)[0])}
    with pytest.raises(InputError, match=r"evaluate\.max_length: a request of a task has"):
        Harness(settings.model_copy(update={"max_length": 20}), language.SYSTEM).requests(chat)


@installed
def test_metrics_have_standard_errors_and_are_the_same_for_any_number_of_replicas(tasks):
    chat, settings = load_chat(DEMO), settings_of(tasks)
    whole, apart = (list(parts_of(settings, chat, size)) for size in (100, 4))
    assert len(apart) == 6
    harness = Harness(settings, language.SYSTEM)
    found = harness.solved(chat, whole)
    assert harness.solved(chat, apart) == found
    assert found.metrics["endings"] == {"acc": 1.0, "acc_stderr": 0.0, "n": 7}
    exact = found.metrics["sayings"]
    assert exact["exact_match,short"] == 1.0
    assert exact["exact_match_stderr,short"] == 0.0
    assert {name: len(each) for name, each in found.shares["endings"].items()} == {"acc": 7}
    assert set(found.shares["endings"]["acc"].values()) == {1.0}


@installed
def test_an_arm_is_asked_by_its_delta_with_no_checkpoint_of_its_own(tasks, tmp_path):
    from safetensors.torch import load_file, save_file

    from moe_safety.checkpoints import extract_delta
    from moe_safety.models.io import model_folder

    base, tuned = model_folder(DEMO), tmp_path / "tuned"
    shutil.copytree(base, tuned)
    weights = load_file(tuned / "model.safetensors")
    for name in weights:
        if "experts" in name:
            weights[name] = -weights[name]
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    shutil.rmtree(tuned)
    chat, settings = load_chat(DEMO), settings_of(tasks[1:])
    arm = Harness(settings, language.SYSTEM).solved(
        chat, parts_of(settings, chat, 4, DEMO.with_delta(str(tmp_path / "delta.safetensors")))
    )
    again = Harness(settings, language.SYSTEM).solved(chat, parts_of(settings, chat, 4))
    assert arm.metrics["sayings"]["exact_match,short"] < again.metrics["sayings"]["exact_match,short"] == 1.0


@installed
def test_their_files_and_the_packages_version_decide_them(tasks):
    found = check_harness(config_of(tasks[0]))
    assert list(found) == ["lm_eval", "system prompt", f"task {tasks[0]}", f"task {tasks[0].parent / 'rows.jsonl'}"]


def test_tasks_without_the_package_are_one_line(monkeypatch):
    monkeypatch.setattr("moe_safety.evaluate.harness.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"evaluate\.lm_eval_tasks.*moe-safety\[eval\]"):
        check_harness(config_of("arc_easy"))


@installed
@pytest.mark.parametrize(
    "named",
    [
        {"dataset_kwargs": {"data_files": "{}/rows.jsonl"}},
        {"dataset_kwargs": {"data_files": ["{}/*.jsonl"]}},
        {"dataset_kwargs": {"data_files": {"test": ["{}/rows.jsonl"]}}},
        {"dataset_kwargs": {"data_files": {"test": "rows.jsonl"}, "data_dir": "{}"}},
        {"dataset_kwargs": {"data_dir": "{}"}},
        {"dataset_path": "{}"},
    ],
)
def test_other_questions_are_another_task(tmp_path, named):
    data = tmp_path / "data"
    data.mkdir()
    file = tmp_path / "task.yaml"
    file.write_text(json.dumps({"task": "endings"} | named).replace("{}", str(data)))
    config = config_of(file)
    (data / "rows.jsonl").write_text("{}")
    before = check_harness(config)
    (data / "rows.jsonl").write_text("{ }")
    after = check_harness(config)
    assert before.keys() == after.keys() == {"lm_eval", "system prompt", f"task {file}", f"task {data / 'rows.jsonl'}"}
    assert before != after


@installed
def test_a_task_that_is_no_mapping_is_one_line(tmp_path):
    (tmp_path / "task.yaml").write_text("- endings")
    with pytest.raises(InputError, match=r"task\.yaml: a task is a mapping"):
        check_harness(config_of(tmp_path / "task.yaml"))
