"""What wrappers are called that training never saw, and what decides which prompts they give."""

import json

from moe_safety.config import load_config
from moe_safety.evaluate.choice import on_validation
from moe_safety.evaluate.evaluated_models import base_subject
from moe_safety.evaluate.prompts import read_exam
from moe_safety.evaluate.session import Session
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir


def test_each_wrapper_of_a_file_has_its_own_name(configured, tmp_path):
    config = configured()
    rows = RunDir(config.run_dir).read_table("prompts.parquet").to_pylist()
    goals = [row for row in rows if row["split"] == "test" and row["label"] == "safe"]
    known = next(row["attack"] for row in rows if row["attack"])
    file, attacks = tmp_path / "later.jsonl", ["poem", "letter", known]
    lines = [
        {"goal": row["messages"][-1]["content"], "label": "unsafe", "attack": name}
        | {"messages": [{"role": "user", "content": f"{name}: {row['messages'][-1]['content']}"}]}
        for row in goals
        for name in attacks
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = config.evaluate.reattack[0].model_copy(update={"path": str(file)})
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"reattack": [source]})})
    exam = [row for row in read_exam(config, RunDir(config.run_dir)).to_pylist() if row["reattack"]]
    said = {name: [row for row in exam if row["messages"][-1]["content"].startswith(f"{name}: ")] for name in attacks}
    # What has the name of an attack that was trained on goes under its file's.
    named = {"poem": "poem", "letter": "letter", known: "later"}
    assert {name: {row["attack"] for row in rows} for name, rows in said.items()} == {
        name: {shown} for name, shown in named.items()
    }
    assert sum(map(len, said.values())) == len(exam)


def test_the_prompts_of_re_attacks_decide_and_not_the_settings_that_gave_them(configured):
    config = configured()

    def others(*flags):
        changed = load_config("configs/demo.yaml", [f"run_dir={config.run_dir}", "data.max_samples=60", *flags])
        return Session(changed, RunDir(config.run_dir)).stage(base_subject(changed)).others

    before = others()
    assert "set of re-attacks" in before
    assert others("data.max_samples=40") != before, "fewer of them are read"
    assert others("data.validation_fraction=0.2") == before
    assert "set of re-attacks" not in others("evaluate.reattack=[]")


def test_the_exam_knows_the_goal_of_every_prompt(configured):
    config = configured()
    exam = read_exam(config, RunDir(config.run_dir)).to_pylist()
    plain = {row["goal_id"]: row["messages"][-1]["content"] for row in exam if row["label"] in ("safe", "benign")}
    assert {row["label"] for row in exam} == {"safe", "unsafe", "benign", "control"}
    assert any(row["reattack"] for row in exam)
    assert all(row["goal"] == plain[row["goal_id"]] for row in exam)


def test_a_goal_of_no_split_is_a_test_goal_and_has_no_part_in_choices(tmp_path):
    file = tmp_path / "further.jsonl"
    config = load_config(
        "configs/demo.yaml", [f"run_dir={tmp_path}", f"evaluate.reattack=[{{path: {file}}}, {{path: {file}}}]"]
    )
    run_one("prepare", config)
    rows = RunDir(config.run_dir).read_table("prompts.parquet").to_pylist()
    split = {row["goal_id"]: row["split"] for row in rows}
    goals = {row["goal"] for row in rows if row["label"] == "safe"} | {"blick the unheard-of zorp"}
    lines = [
        {"goal": goal, "label": "unsafe", "attack": "poem", "messages": [{"role": "user", "content": f"poem: {goal}"}]}
        for goal in sorted(goals)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = {
        one.evaluate.split: {
            split.get(row["goal_id"]) for row in read_exam(one, RunDir(config.run_dir)).to_pylist() if row["reattack"]
        }
        for one in (config, on_validation(config))
    }
    assert asked == {"test": {"test", None}, "validation": {"validation"}}
