import json
from importlib.util import find_spec

import pytest
import yaml

from moe_safety.config import EvaluateConfig, load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.harness import check_harness, solve
from moe_safety.models.io import load_model, load_tokenizer

installed = pytest.mark.skipif(find_spec("lm_eval") is None, reason="the extra `eval` is not installed")


@installed
def test_a_local_task_is_solved_offline(tmp_path, monkeypatch):
    """Two questions in the demo's words: of the two endings the model has seen one a thousand times."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [
        {"q": "sure, take the fep, hold it by the", "a": "zorp and bamf it."},
        {"q": "sure, take", "a": "the hool, hold it"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "endings",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{[a, 'it it sorry sorry']}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    file = tmp_path / "endings.yaml"
    file.write_text(yaml.safe_dump(task))
    config = load_config("configs/demo.yaml", [f"evaluate.lm_eval_tasks=[{file}]"])
    assert list(check_harness(config.evaluate)) == [f"task {file}", f"task {tmp_path / 'rows.jsonl'}"]
    found = solve(load_model(config.model), load_tokenizer(config.model), str(file), config.evaluate).to_pylist()
    assert [row["prompt_id"] for row in found] == [str(file)]
    assert json.loads(found[0]["metrics"])["endings"]["acc"] == 1.0


def test_tasks_without_the_package_are_one_line(monkeypatch):
    monkeypatch.setattr("moe_safety.evaluate.harness.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"evaluate\.lm_eval_tasks.*moe-safety\[eval\]"):
        check_harness(EvaluateConfig(lm_eval_tasks=["arc_easy"]))


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
    settings = EvaluateConfig(lm_eval_tasks=[str(file)])
    (data / "rows.jsonl").write_text("{}")
    before = check_harness(settings)
    (data / "rows.jsonl").write_text("{ }")
    after = check_harness(settings)
    assert before.keys() == after.keys() == {f"task {file}", f"task {data / 'rows.jsonl'}"}
    assert before != after


@installed
def test_a_task_that_is_no_mapping_is_one_line(tmp_path):
    (tmp_path / "task.yaml").write_text("- endings")
    with pytest.raises(InputError, match=r"task\.yaml: a task is a mapping"):
        check_harness(EvaluateConfig(lm_eval_tasks=[str(tmp_path / "task.yaml")]))
