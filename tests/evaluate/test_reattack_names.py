"""What wrappers are called that training never saw."""

import json

from moe_safety.evaluate.prompts import read_exam
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
