"""Batches are filled from rows that have the same in a column of their input, whatever it is called."""

import pyarrow as pa
import pytest

from moe_safety.batches.mixed import fill, make_pairs
from moe_safety.config import BatchesConfig, DataConfig, load_config
from moe_safety.errors import InputError
from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.inputs.prepare import read_prompts
from moe_safety.inputs.table import PROMPTS_SCHEMA
from moe_safety.rundir import RunDir
from tests.batches.test_mixed import prompts


def grouped(rows, name, **settings):
    return fill(make_pairs(rows, seed=1), [], [], BatchesConfig(batch_size=4, group_by=name, **settings)).batches


def with_columns(rows, **values):
    return [
        {**row, "columns": [(name, value(int(row["goal_id"][1:]))) for name, value in values.items()]} for row in rows
    ]


def test_any_column_of_the_attacks():
    rows = with_columns(
        prompts(8), difficulty=lambda goal: ("easy", "hard")[goal % 2], source=lambda goal: str(goal // 4)
    )
    for name, group in (("Difficulty ", lambda goal: goal % 2), ("source", lambda goal: goal // 4)):
        batches = grouped(rows, name)
        assert len(batches) == 4
        for batch in batches:
            assert len({group(int(row["goal_id"][1:])) for row in batch}) == 1


def test_without_such_a_column_the_source_is_the_file():
    rows = [{**row, "source": f"{'ab'[n % 4 > 1]}.json:{n}", "attack": None} for n, row in enumerate(prompts(8))]
    for batch in grouped(rows, "source"):
        assert len({row["source"][0] for row in batch if row["label"] == "unsafe"}) == 1


def test_a_column_that_no_row_has_is_refused_with_those_that_are_there():
    rows = [{**row, "attack": None} for row in with_columns(prompts(4), difficulty=lambda goal: "easy")]
    with pytest.raises(
        InputError, match=r"batches\.group_by: no attack has a column 'dificulty'; there are .*difficulty"
    ):
        grouped(rows, "dificulty")


def test_prompts_of_an_earlier_version_are_told_from_files_without_the_column():
    rows = [{**row, "attack": None, "source": "f:1"} for row in prompts(4)]
    assert grouped(rows, "source")
    with pytest.raises(InputError, match=r"batches\.group_by: `prepare` was run by a version .* --force"):
        grouped(rows, "difficulty")


def test_prompts_keep_short_columns_that_their_format_does_not_read(tmp_path):
    path = tmp_path / "goals.csv"
    path.write_text(
        "id,goal,target,Difficulty,notes,level\n"
        f"1,blick the zorp,Sure,easy,{'long ' * 30},2\n2,frob the quib,Sure,hard,,\n"
    )
    data = DataConfig.model_validate({"attacks": [{"path": str(path), "wrapper": "flip-word-order"}]})
    table = read_prompts(data, 0).table
    assert [dict(row) for row in table["columns"].to_pylist()] == [
        *[{"difficulty": "easy", "level": "2"}] * 2,
        *[{"difficulty": "hard"}] * 2,
    ]


def test_identify_takes_the_values_of_that_column_for_categories(tmp_path):
    run = RunDir(str(tmp_path))
    rows = [
        {"prompt_id": f"p{n}", "goal_id": f"g{n}", "label": "unsafe", "category": None, "attack": None, "source": "f:1"}
        | {"columns": [("difficulty", ("easy", "hard")[n % 2])]}
        for n in range(4)
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0] if name != "columns"])
    schema = schema.append(pa.field("columns", pa.map_(pa.string(), pa.string())))
    run.write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=schema))
    places = [{"batch_idx": n // 2, "prompt_id": f"p{p}", "label": "unsafe"} for n, p in enumerate((0, 2, 1, 3))]
    run.write_table("batches.parquet", pa.Table.from_pylist(places))
    found = read_batch_rows(run, "difficulty")
    assert found.categories == ("easy", "hard")
    assert found.category_of_batches().tolist() == [0, 1]
    assert read_batch_rows(run).categories == ()


def test_a_goal_attacked_in_two_ways_is_of_both_and_its_plain_form_of_what_its_batch_is(tmp_path):
    plain = [row for row in prompts(2) if row["label"] == "safe"]
    rows = [{**row, "attack": None, "source": "f:1", "columns": []} for row in plain]
    rows += [
        {**row, "prompt_id": f"{attack}-{row['goal_id']}", "label": "unsafe", "attack": attack}
        for attack in ("flip", "persuade")
        for row in rows[:2]
    ]
    batches = grouped(rows, "attack")
    run = RunDir(str(tmp_path))
    kept = ("prompt_id", "goal_id", "label", "category", "attack", "source", "columns")
    schema = pa.schema([PROMPTS_SCHEMA.field(name) for name in kept])
    run.write_table(
        "prompts.parquet", pa.Table.from_pylist([{name: row[name] for name in kept} for row in rows], schema)
    )
    places = [(batch, row["prompt_id"], row["label"]) for batch, mine in enumerate(batches) for row in mine]
    run.write_table("batches.parquet", pa.table(list(zip(*places, strict=True)), ["batch_idx", "prompt_id", "label"]))
    found = read_batch_rows(run, "attack")
    assert found.categories == ("flip", "persuade")
    assert found.category_of_batches().tolist() == [0, 1]
    assert (found.category == found.batch).all()


def test_the_key_is_any_name_but_none():
    assert load_config("configs/demo.yaml", ["batches.group_by=Difficulty"]).batches.group_by == "difficulty"
    with pytest.raises(InputError, match=r"batches\.group_by"):
        load_config("configs/demo.yaml", ['batches.group_by=" "'])
