"""What bad input gets: one line that names the file, and the row where there is one."""

from __future__ import annotations

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from moe_safety.cli import main
from moe_safety.errors import InputError
from moe_safety.inputs.files import digest_of


def user(text):
    return {"role": "user", "content": text}


def complaint(prepare, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        prepare(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


FLIP = [
    ({"goal": ...}, "a row without a goal"),
    ({"goal": None}, "a row without a goal"),
    ({"goal": ""}, "a row without a goal"),
    ({"goal": " \n"}, "a row without a goal"),
    ({"goal": float("nan")}, "a row without a goal"),
    ({"goal": 7}, "goal is a int, not text"),
    ({"goal": ["blick"]}, "goal is a list, not text"),
    ({"goal": "blick \ud800"}, "half a surrogate pair"),
    ({"all_prompt": []}, "all_prompt is empty"),
    ({"all_prompt": "zorp the blick"}, "all_prompt is a str, not a list of messages"),
    ({"all_prompt": {"role": "user"}}, "all_prompt is a dict, not a list of messages"),
    ({"all_prompt": ["zorp"]}, "not a list of messages with role and content"),
    ({"all_prompt": [{"role": "user"}]}, "not a list of messages with role and content"),
    ({"all_prompt": [{"role": "wizard", "content": "x"}, user("x")]}, "unknown role 'wizard'"),
    ({"all_prompt": [{"role": None, "content": "x"}]}, "unknown role 'None'"),
    ({"all_prompt": [{"role": ["user"], "content": "x"}]}, "unknown role"),
    ({"all_prompt": [{"role": "user", "content": None}]}, "content is null"),
    ({"all_prompt": [{"role": "user", "content": [{"type": "text"}]}]}, "content is a list"),
    ({"all_prompt": [{"role": "system", "content": "x"}]}, "no turn of the user"),
    ({"all_prompt": [user(" ")]}, "no turn of the user"),
    ({"all_prompt": [user("x"), {"role": "system", "content": "x"}]}, "system message after the first"),
    ({"output": ["zorp"]}, "output is a list, not text"),
    ({"split": "dev"}, "split is 'dev'; here it can be train or validation or test"),
    ({"id": "0"}, "has the id '0' of row 1"),
]


@pytest.mark.parametrize(("changes", "problem"), FLIP, ids=[str(changes)[:50] for changes, _ in FLIP])
def test_rows_of_attack_files(write, prepare, flip_row, changes, problem):
    path = write("a.json", [flip_row(0), flip_row(1, **changes), flip_row(2)])
    line = complaint(prepare, path)
    assert line.startswith(f"{path}, row 2: ")
    assert problem in line


def test_a_failed_attack_is_checked_too(write, prepare, flip_row):
    path = write("a.json", [flip_row(0), flip_row(1, goal=None, judge_success_gpt4=0)])
    assert complaint(prepare, path).startswith(f"{path}, row 2: a row without a goal")


def test_no_row_at_all_has_a_goal(write, prepare, flip_row):
    path = write("a.json", [flip_row(0, goal=...)])
    assert complaint(prepare, path).startswith(f"{path}, row 1: a row without a goal")


def test_persuasion_rows_need_their_prompt(write, prepare):
    path = write("p.json", [{"prompt": None, "all_prompt": [user("x")], "attack_response": "y"}])
    assert "row 1: a row without a goal (no prompt" in complaint(prepare, path)


FILES = [
    ("empty.json", b"", "the file is empty"),
    ("blank.csv", b"\xef\xbb\xbf \n\n", "the file is empty"),
    ("broken.json", b'[{"goal": "blick"},\n {"goal": ]', "is not JSON: Expecting value at line 2 column 11"),
    ("cut.json", b'[{"goal": "blick"}', "is not JSON"),
    ("words.json", b"blick the zorp", "no JSON of objects and no Parquet, and as CSV it has no column goal or prompt"),
    ("scalar.json", b"42", "no JSON of objects"),
    ("null.json", b"null", "no JSON of objects"),
    ("object.json", b'{"goal": "blick"}', "is not a list of objects but a single one"),
    ("numbers.json", b"[1, 2]", "row 1: is not an object but a int"),
    ("mixed.json", b'[{"goal": "blick"}, ["dax"]]', "row 2: is not an object but a list"),
    ("none.json", b"[]", "has no rows"),
    ("deep.json", b"[" * 100_000, "is not JSON"),
    ("other.json", b'[{"text": "blick"}]', "is not a known format (its columns: 'text'); set `format` or `columns`"),
    ("broken.jsonl", b'{"goal": "blick"}\n{"goal": \n', "row 2: is not JSON: Expecting value at column 10"),
    ("mixed.jsonl", b'{"goal": "blick"}\n\n[1]\n', "row 3: is not an object"),
    ("header.csv", b"goal,target\n", "has no rows"),
    ("other.csv", b"text,target\nblick,Sure\n", "no column goal or prompt (its columns: 'target', 'text')"),
    ("twice.csv", b"goal,goal\nblick,dax\n", "has two columns named 'goal'"),
    ("ragged.csv", b"goal,target\nblick,Sure\ndax\n", "row 2: has 1 fields where the header has 2"),
    ("long.csv", b"goal,target\nblick,Sure,Sure\n", "row 1: has 3 fields where the header has 2"),
    ("open.csv", b'goal,target\nblick,Sure\n"dax,Sure\nwug,Sure\n', "row 2: is not CSV"),
    ("gap.csv", b"goal,target\nblick,Sure\n ,Sure\n", "row 2: a row without a goal (no goal or prompt)"),
    ("ids.csv", b"id,prompt,type,label,focus,note\n1,a,b,safe,,\n1,c,b,safe,,\n", "row 2: has the id '1' of row 1"),
    ("label.csv", b"id,prompt,type,label\n1,a,b,spicy\n", "row 1: label is 'spicy'; here it can be safe or unsafe"),
    ("nolabel.csv", b"id,prompt,type,label\n1,a,b,\n", "row 1: has no label"),
    ("latin.csv", "goal,target\nblick,Sure\ncaf\xe9,Sure\n".encode("latin-1"), "nor UTF-8 text (line 3)"),
    ("latin.json", '[{"goal": "caf\xe9"}]'.encode("latin-1"), "nor UTF-8 text (line 1)"),
    ("utf16.csv", "goal,target\nblick,Sure\n".encode("utf-16"), "nor UTF-8 text"),
    ("magic.parquet", b"PAR1 and then nothing", "not a readable Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "problem"), FILES, ids=[name for name, _, _ in FILES])
def test_files(write, prepare, name, content, problem):
    path = write(name, content)
    line = complaint(prepare, path)
    assert line.startswith(path)
    assert problem in line


MESSAGES = [
    ({"label": ...}, "has no label (safe or unsafe)"),
    ({"label": "benign"}, "label is 'benign'; here it can be safe or unsafe"),
    ({"label": 1}, "label is a int, not text"),
    ({"label": "unsafe"}, "a row without a goal (no goal)"),
    ({"messages": ...}, "messages is null, not a list of messages"),
    ({"messages": []}, "messages is empty"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "no turn of the user"),
    ({"messages": [user("x"), *[{"role": "assistant", "content": "y"}] * 2]}, "no turn of the user before its answer"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "unknown role 'tool'"),
    ({"split": "dev"}, "split is 'dev'; here it can be train or validation or test"),
    ({"category": ["z"]}, "category is a list, not text"),
]


@pytest.mark.parametrize(("changes", "problem"), MESSAGES, ids=[str(changes)[:50] for changes, _ in MESSAGES])
def test_rows_of_messages(write, prepare, changes, problem):
    good = {"label": "safe", "messages": [user("blick")]}
    bad = {key: value for key, value in (good | changes).items() if value is not ...}
    path = write("a.jsonl", [good, bad])
    line = complaint(prepare, path)
    assert line.startswith(f"{path}, row 2: ")
    assert problem in line


def test_no_such_file_and_a_folder(tmp_path, prepare):
    missing = str(tmp_path / "missing.json")
    assert complaint(prepare, missing) == f"{missing}: no such file"
    assert complaint(prepare, str(tmp_path)) == f"{tmp_path}: is a folder, not a file"
    with pytest.raises(InputError, match="no such file"):
        digest_of(missing)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet", "a.pkl"])
def test_a_pickle_is_an_error_under_any_name(write, tmp_path, prepare, name, protocol):
    path = write(name, pickle.dumps([Trap(str(tmp_path / "sprung"))], protocol))
    assert complaint(prepare, path).startswith(path)
    assert not (tmp_path / "sprung").exists()


def test_parquet_of_something_else(tmp_path, prepare):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"numbers": [1, 2]}), path)
    assert "is not a known format (its columns: 'numbers')" in complaint(prepare, path)
    pq.write_table(pa.table({"goal": pa.array([], pa.string())}), path)
    assert complaint(prepare, path) == f"{path}: has no rows"


def test_damaged_parquet(tmp_path, prepare, flip_row):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([flip_row(number) for number in range(100)]), path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :])
    assert complaint(prepare, str(path)).startswith(f"{path}: is not a readable Parquet file")


def test_a_missing_mapped_column(write, prepare):
    path = write("a.csv", "text,target\nblick,Sure\n")
    line = complaint(prepare, {"path": path, "columns": {"goal": "request"}})
    assert line == f"{path}: has no column 'request' (its columns: 'target', 'text')"


def test_a_long_header_is_cut(write, prepare):
    path = write("a.csv", "blick the zorp until it is thoroughly blicked,Sure\nx,y\n")
    assert "thoroughly" not in complaint(prepare, path)


def test_nothing_left_says_which_filter_took_what(write, prepare, flip_row):
    rows = [flip_row(0, all_prompt=...), *(flip_row(number, judge_success_gpt4=0) for number in (1, 2))]
    path = write("a.json", rows)
    line = complaint(prepare, path)
    assert line == f"{path}, data.attacks: no prompt is left of 3 rows: 1 no all_prompt, 2 not successful"


def test_nothing_left_of_benign(write, prepare, flip_row):
    benign = write("b.csv", "id,prompt,type,label,focus,note\n1,blick,x,unsafe,,\n")
    line = complaint(prepare, write("a.json", [flip_row()]), benign=[benign])
    assert line == f"{benign}, data.benign: no prompt is left of 1 rows: 1 labelled unsafe"


def test_files_in_the_wrong_place(write, prepare, flip_row):
    attack = write("a.json", [flip_row()])
    assert "attack results are no benign prompts" in complaint(prepare, attack, benign=[attack])
    plain = write("c.csv", "prompt\nfrob the dax\n")
    assert complaint(prepare, attack, controls=[plain]).startswith(f"{plain}: plain requests are no controls")
    wrapped = {"path": attack, "wrapper": "flip-word-order"}
    assert "brings its own attack forms" in complaint(prepare, wrapped)


def test_controls_from_nothing_and_wrapped_benign_prompts_are_errors_of_the_configuration(write, prepare, flip_row):
    attack = write("a.json", [flip_row()])
    with pytest.raises(ValidationError, match="controls are made from `benign`"):
        prepare(attack, controls={"from": "benign", "wrapper": "flip-word-order"})
    with pytest.raises(ValidationError, match="benign prompts stay plain"):
        prepare(attack, benign=[{"path": attack, "wrapper": "flip-word-order"}])


def test_an_error_shows_no_text_of_a_row(write, prepare):
    path = write("a.json", json.dumps([{"goal": "blick the zorp", "id": 1}, {"goal": "blick the zorp", "id": 1}]))
    assert "zorp" not in complaint(prepare, path)


def test_a_file_that_was_corrected_needs_no_force(write, flip_row, tmp_path, capsys):
    rows = [flip_row(number) for number in range(20)]
    config = write(
        "config.yaml",
        f"run_dir: {tmp_path / 'run'}\nmodel: {{name: demo}}\ndata: {{attacks: [{{path: {tmp_path / 'a.json'}}}]}}\n",
    )
    write("a.json", [*rows, flip_row(20, goal=7)])
    assert main(["prepare", config]) == 2
    assert "a.json, row 21" in capsys.readouterr().err
    write("a.json", rows)
    assert main(["prepare", config]) == 0
