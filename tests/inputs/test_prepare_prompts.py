"""What becomes of the rows of all sources together."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_safety.config import DataConfig
from moe_safety.errors import InputError
from moe_safety.inputs.prepare import read_prompts
from moe_safety.inputs.split import check_no_leak
from moe_safety.inputs.table import PROMPTS_SCHEMA, goal_id


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def labels(prepared):
    return prepared.table["label"].to_pylist()


def goals(count, word="blick"):
    return "goal,target\n" + "".join(f"{word} the zorp {number},Sure\n" for number in range(count))


def test_the_table_has_the_schema_and_ids_are_unique(write, prepare, flip_row):
    prepared = prepare(
        write("a.json", [flip_row(number) for number in range(20)]),
        benign=[write("b.csv", goals(10, "frob"))],
        controls={"from": "benign", "wrapper": "flip-word-order"},
    )
    assert prepared.table.schema == PROMPTS_SCHEMA
    assert prepared.table.num_rows == 20 * 2 + 10 * 2
    assert len(set(prepared.table["prompt_id"].to_pylist())) == 60


def test_order_is_by_role_then_source_then_row(write, prepare, flip_row):
    first, second = write("1.json", [flip_row(0), flip_row(1)]), write("2.csv", goals(1))
    benign = write("b.csv", goals(2, "frob"))
    prepared = prepare(
        first, {"path": second, "wrapper": "flip-word-order"}, benign=[benign],
        controls={"from": "benign", "wrapper": "flip-word-order"},
    )  # fmt: skip
    expected = [f"{first}:1"] * 2 + [f"{first}:2"] * 2 + [f"{second}:1"] * 2 + [f"{benign}:1", f"{benign}:2"] * 2
    assert prepared.table["source"].to_pylist() == expected
    assert labels(prepared) == ["safe", "unsafe"] * 3 + ["benign"] * 2 + ["control"] * 2


def test_controls_follow_their_benign_prompts(write, prepare, flip_row):
    rows = [{"messages": [user("frob the dax"), said("frobbed")], "category": "daxes"}, {"messages": [user("wug it")]}]
    prepared = prepare(
        write("a.json", [flip_row()]),
        benign=[write("b.jsonl", rows)],
        controls={"from": "benign", "wrapper": "flip-word-order"},
    )
    table = prepared.table.to_pylist()
    for benign, control in zip(table[2:4], table[4:], strict=True):
        assert control["label"] == "control"
        for same in ("goal_id", "goal", "target", "category", "source", "split"):
            assert control[same] == benign[same]
        assert control["answer"] is None
        assert control["attack"] == "flip-word-order"
    assert table[4]["messages"][-1] == user("dax the frob")
    assert table[4]["target"] == "frobbed"


def test_every_prompt_knows_the_plain_request_behind_it(write, prepare, flip_row):
    wrapped = [user("zorp the frob"), user("(backwards)")]
    prepared = prepare(
        write("a.json", [flip_row()]),
        {"path": write("g.csv", "goal\nwug the dax\n"), "wrapper": "flip-word-order"},
        benign=[write("b.jsonl", [{"messages": [user("frob the zorp"), said("frobbed")]}])],
        controls=[
            write("c.jsonl", [{"messages": wrapped, "goal": "frob the zorp"}, {"messages": [user("it dax")]}]),
            {"path": write("d.csv", "prompt\nfrob it\n"), "wrapper": "flip-chars-in-word"},
        ],
    )
    assert [(row["label"], row["goal"]) for row in prepared.table.to_pylist()] == [
        ("safe", "blick the zorp number 0"),
        ("unsafe", "blick the zorp number 0"),
        ("safe", "wug the dax"),
        ("unsafe", "wug the dax"),
        ("benign", "frob the zorp"),
        ("control", "frob the zorp"),
        ("control", "it dax"),
        ("control", "frob it"),
    ]
    assert [goal_id(row["goal"]) for row in prepared.table.to_pylist()] == prepared.table["goal_id"].to_pylist()


def test_one_goal_in_several_files_gives_one_safe_prompt(write, prepare, flip_row):
    again = flip_row(0, goal="Blick  the ZORP number 0", all_prompt=[user("another way")])
    prepared = prepare(
        write("1.json", [flip_row(0)]), write("2.json", [again]), write("3.csv", "goal\nBLICK the zorp number 0\n")
    )
    assert labels(prepared) == ["safe", "unsafe", "unsafe"]
    assert len(set(prepared.table["goal_id"].to_pylist())) == 1
    assert prepared.counts["duplicates"] == 1


def test_the_same_conversation_is_merged_into_the_first(write, prepare, flip_row):
    again = flip_row(0, id=9, output="another answer")
    first = write("1.json", [flip_row(0), again])
    prepared = prepare(first, benign=[write("b.csv", "prompt,target\nFrob the quib,x\nFrob the quib,x\n")])
    assert labels(prepared) == ["safe", "unsafe", "benign"]
    assert prepared.table["answer"].to_pylist()[1] == "zorp 0 is blicked"
    attacks, benign = prepared.counts["sources"]
    assert attacks["duplicates"] == {"unsafe": 1}
    assert benign["duplicates"] == {"benign": 1}


def test_an_attack_that_comes_again_as_a_harmless_request_is_merged_too(write, prepare, flip_row):
    said = {"messages": flip_row(0)["all_prompt"], "label": "benign", "answer": "x"}
    prepared = prepare(write("1.json", [flip_row(0)]), benign=[write("b.jsonl", [said])])
    assert prepared.counts["sources"][1]["duplicates"] == {"benign, there as unsafe": 1}


@pytest.mark.parametrize(
    ("role", "row"),
    [
        ("benign", {"messages": [user("BLICK the  zorp number 0")], "label": "benign", "answer": "x"}),
        ("controls", {"messages": [user("a tale")], "label": "control", "goal": "blick the zorp number 0"}),
        ("benign", {"messages": [user("blick the zorp number 0")], "label": "benign", "goal": "frob", "answer": "x"}),
    ],
)
def test_a_harmless_request_that_is_the_goal_of_an_attack_is_refused(write, prepare, flip_row, role, row):
    attacks = write("1.json", [flip_row(1), flip_row(0)])
    fine = {**row, "messages": [user("frob the quib")], "goal": "frob the quib"}
    harmless = write("h.jsonl", [fine, row])
    with pytest.raises(InputError) as refused:
        prepare(attacks, **{role: [harmless]})
    told = str(refused.value)
    assert told.startswith(harmless)
    assert "row 2" in told
    assert f"is the goal of an attack in {attacks}:2; take it out of one of the two" in told
    assert "zorp" not in told
    assert "\n" not in told


def test_max_samples_counts_rows_of_each_source_after_its_filters(write, prepare, flip_row):
    rows = [flip_row(number, judge_success_gpt4=number % 2) for number in range(10)]
    path, benign = write("a.json", rows), write("b.csv", goals(5, "frob"))
    prepared = prepare(path, benign=[benign], max_samples=2)
    assert prepared.table["source"].to_pylist() == [f"{path}:2"] * 2 + [f"{path}:4"] * 2 + [
        f"{benign}:1",
        f"{benign}:2",
    ]


def test_counts_are_plain_data_that_add_up(write, prepare, flip_row):
    rows = [flip_row(number, judge_success_gpt4=int(number < 8)) for number in range(10)]
    path = write("a.json", rows)
    prepared = prepare(path, benign=[write("b.csv", goals(10, "frob"))], test_fraction=0.25, validation_fraction=0.125)
    counts = json.loads(json.dumps(prepared.counts))
    assert counts["sources"][0] == {
        "source": path,
        "role": "attacks",
        "format": "flipattack",
        "container": "json",
        "rows": 10,
        "dropped": {"not successful": 2},
        "prompts": {"safe": 8, "unsafe": 8},
        "duplicates": {},
        "notes": [],
    }
    assert counts["goals"] == 18
    assert counts["labels"]["safe"] == counts["labels"]["unsafe"] == {"train": 5, "validation": 1, "test": 2}
    assert sum(counts["labels"]["benign"].values()) == 10


def test_the_system_message_can_be_another_or_none(write, prepare, flip_row):
    path = write("a.csv", "goal\nblick the zorp\n")
    source = {"path": path, "wrapper": "flip-word-order"}
    table = prepare(source, system="Be brief.").table.to_pylist()
    assert table[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert table[1]["messages"][0]["content"].startswith("Be brief. ")
    safe, unsafe = prepare(source, system="").table["messages"].to_pylist()
    assert safe == [user("blick the zorp")]
    assert [message["role"] for message in unsafe] == ["user"]
    assert unsafe[0]["content"].endswith("\n\nzorp the blick")


def test_a_prompt_without_a_category_has_its_goal_s(write, prepare, flip_row):
    listed = "goal,category\n" + "".join(f"blick the zorp number {number},zorps\n" for number in range(3))
    attacks = write("a.json", [flip_row(0), flip_row(1, category="others"), flip_row(9)])
    table = prepare(write("goals.csv", listed), attacks).table
    unsafe = [row["category"] for row in table.to_pylist() if row["label"] == "unsafe"]
    assert unsafe == ["zorps", "others", None]


def test_a_split_of_the_file_holds_for_the_whole_goal(write, prepare):
    rows = [{"label": "safe", "messages": [user(f"blick {number}")], "split": "test"} for number in range(8)]
    rows += [
        {"label": "unsafe", "goal": f"blick {number}", "messages": [user(f"tale {number}")]} for number in range(8)
    ]
    rows += [{"label": "safe", "messages": [user(f"dax {number}")]} for number in range(10)]
    table = prepare(write("a.jsonl", rows), test_fraction=0.2, validation_fraction=0.1).table
    assert table["split"].to_pylist()[:16] == ["test"] * 16
    assert sorted(table["split"].to_pylist()[16:]) == ["test"] * 2 + ["train"] * 7 + ["validation"]


def test_a_goal_with_two_splits_is_an_error(write, prepare):
    rows = [
        {"label": "safe", "messages": [user("blick it")], "split": "test"},
        {"label": "unsafe", "goal": "Blick it", "messages": [user("tale")], "split": "train"},
    ]
    path = write("a.jsonl", rows)
    with pytest.raises(InputError) as caught:
        prepare(path)
    assert str(caught.value).startswith(f"{path}, row 2: ")
    assert f"{path}:1" in str(caught.value)


def test_goals_are_those_of_the_table(write, prepare):
    table = prepare(write("a.csv", "goal\n Blick  the\tZORP \n")).table.to_pylist()
    assert table[0]["goal_id"] == goal_id("blick the zorp")
    assert table[0]["messages"][-1] == user(" Blick  the\tZORP ")


def test_the_split_does_not_depend_on_row_order_or_other_sources(write, prepare, flip_row):
    rows = [flip_row(number, category=f"c{number % 3}") for number in range(40)]
    forward = prepare(write("1.json", rows)).table
    backward = prepare(write("2.json", rows[::-1]), benign=[write("b.csv", goals(30, "frob"))]).table
    side = dict(zip(forward["prompt_id"].to_pylist(), forward["split"].to_pylist(), strict=True))
    other = dict(zip(backward["prompt_id"].to_pylist(), backward["split"].to_pylist(), strict=True))
    assert side.items() <= other.items()
    assert len(set(side.values())) == 3


spelled = st.tuples(st.integers(0, 12), st.sampled_from(["blick {}", "Blick  {} ", "BLICK\t{}"]))
goals_of_files = st.lists(st.lists(spelled, min_size=1, max_size=15), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(goals_of_files, st.floats(0, 0.5), st.integers(0, 1000))
def test_however_goals_are_spread_and_spelled_none_leaks(files, test_fraction, seed):
    with tempfile.TemporaryDirectory() as folder:
        attacks = []
        for index, goals in enumerate(files):
            path = Path(folder, f"{index}.json")
            path.write_text(json.dumps([{"goal": spelling.format(number)} for number, spelling in goals]))
            attacks.append({"path": str(path), "wrapper": "flip-word-order"})
        data = DataConfig.model_validate({"attacks": attacks, "test_fraction": test_fraction})
        table = read_prompts(data, seed).table
    check_no_leak(table)
    labels = defaultdict(list)
    for row in table.to_pylist():
        labels[row["goal_id"]].append(row["label"])
    assert len(labels) == len({number for goals in files for number, _ in goals})
    assert all(forms.count("safe") == 1 and "unsafe" in forms for forms in labels.values())
    sides = dict(zip(table["goal_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert list(sides.values()).count("test") == round(len(sides) * test_fraction)
