"""Files are read a piece at a time: the same rows and errors, and memory that does not grow with them."""

from __future__ import annotations

import csv
import gc
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.errors import InputError
from moe_safety.inputs import collect, files, table
from moe_safety.inputs.files import open_file
from moe_safety.inputs.numbering import Numbering
from moe_safety.inputs.record import Record, Row
from moe_safety.inputs.table import Prompt, prompt_id

LISTS = [
    '[{"a": 1}]',
    ' \n [ {"a": "é\u2028]},"} ,\r\n\t{"b": [1, {"c": "\\"]"}], "d": 1.5e3}\n]  \n',
    '[{"a": "\\ud83d\\ude00 😀"},{},{"zorp": null}]',
]


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1 << 20])
def test_a_list_gives_the_same_rows_in_pieces_of_any_size(write, monkeypatch, text, piece):
    monkeypatch.setattr(files, "_CHUNK", piece)
    content = open_file(write("a.json", text))
    whole = json.loads(text)
    assert [*content.rows] == [*content.rows] == [*enumerate(whole, 1)]
    assert content.columns == {name for row in whole for name in row}


BROKEN = [
    '[{"a": 1}, {"a": 2]',
    '[{"a": 1} {"a": 2}]',
    '[{"a": 1}, ]',
    '[{"a": 1}',
    '[{"a": 1}] x',
    '[{"a": 1}]]',
    '[, {"a": 1}]',
    '[{"a": "\n"}]',
    "[nope]",
    '[{"a": 1}, 7, {"a": 2]',
    "[\xa0]",
    "\xa0[1]",
    "[1]\xa0",
]


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("piece", [1, 4, 1 << 20])
def test_what_is_wrong_with_a_list_is_said_as_of_the_whole_file(write, monkeypatch, text, piece):
    monkeypatch.setattr(files, "_CHUNK", piece)
    with pytest.raises(json.JSONDecodeError) as wrong:
        json.loads(text)
    path = write("a.json", text)
    with pytest.raises(InputError) as told:
        open_file(path)
    error = wrong.value
    assert str(told.value) == f"{path}: is not JSON: {error.msg} at line {error.lineno} column {error.colno}"


def test_text_that_is_cut_between_the_bytes_of_a_character_is_whole(write, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 1)
    path = write("a.jsonl", '\ufeff\n{"goal": "é\u2028"}\n \n{"goal": "😀"}')
    assert [*open_file(path).rows] == [(2, {"goal": "é\u2028"}), (4, {"goal": "😀"})]
    bad = write("b.jsonl", '{"goal": "é"}\n{"goal": "'.encode() + b'\xe9"}\n')
    with pytest.raises(InputError, match=r"nor UTF-8 text \(line 2\)"):
        open_file(bad)


def test_a_file_named_by_a_uri_is_read_the_same(write, prepare, flip_row):
    row = {"messages": [{"role": "user", "content": "frob it"}], "label": "benign"}
    paths = write("a.json", [flip_row()]), write("b.jsonl", [row, row]), write("c.csv", "goal\nwug it\n")
    pq.write_table(pa.Table.from_pylist([flip_row(7)]), parquet := str(Path(paths[0]).parent / "d.parquet"))
    here, there = (
        prepare(of + paths[0], of + parquet, benign=[of + paths[1]], controls=[{"path": of + paths[2], "wrapper": w}])
        for of, w in (("", "flip-word-order"), ("file://", "flip-word-order"))
    )
    assert here.table.drop(["source"]).equals(there.table.drop(["source"]))
    assert here.counts["sources"][1]["container"] == "parquet"


def test_what_is_wrong_with_any_file_comes_before_what_is_wrong_between_them(write, prepare, flip_row):
    attacks = write("a.json", [flip_row(0), flip_row(0, id=1, split="test"), flip_row(0, id=2, split="train")])
    benign = write("b.jsonl", [{"messages": [], "label": "benign"}])
    with pytest.raises(InputError, match="messages is empty") as told:
        prepare(attacks, benign=[benign])
    assert str(told.value).startswith(f"{benign}, row 1")


def of_kind(kind: str, folder: Path, rows: int) -> str:
    found = [{"goal": f"{'frob the dax ' * 20}{number}", "zorp": str(number % 7)} for number in range(rows)]
    path = folder / f"{rows}.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(found))
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in found))
        case "csv":
            writer = csv.DictWriter(text := io.StringIO(newline=""), ["goal", "zorp"])
            writer.writeheader()
            writer.writerows(found)
            path.write_text(text.getvalue())
        case "parquet":
            pq.write_table(pa.Table.from_pylist(found), path, row_group_size=100)
    return str(path)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_no_more_rows_are_held_than_are_written_at_once(tmp_path, monkeypatch, prepare, flip_row, write, kind):
    monkeypatch.setattr(files, "_CHUNK", 1 << 12)
    monkeypatch.setattr(table, "_ROWS_PER_BATCH", 50)
    held = []

    def counting(messages):
        looks = len(held) % 400 == 399
        held.append(sum(type(one) in (Record, Row, Prompt) for one in gc.get_objects()) if looks else 0)
        return prompt_id(messages)

    monkeypatch.setattr(collect, "prompt_id", counting)
    attacks, wrapped = write("a.json", [flip_row()]), {"from": "benign", "wrapper": "flip-word-order"}
    prepared = prepare(attacks, benign=[of_kind(kind, tmp_path, 500)], controls=wrapped)
    assert prepared.table.num_rows == 2 + 2 * 500
    assert 10 < max(held) < 60


def test_the_file_is_that_of_the_table(tmp_path, monkeypatch, prepare, flip_row, write):
    monkeypatch.setattr(table, "_ROWS_PER_BATCH", 7)
    listed = write("b.csv", "goal,category\n" + "".join(f"frob {number},c{number % 3}\n" for number in range(20)))
    prepared = prepare(write("a.json", [flip_row(number) for number in range(20)]), benign=[listed])
    prepared.prompts.write(str(tmp_path / "prompts.parquet"))
    pq.write_table(prepared.table, tmp_path / "at_once.parquet")
    assert (tmp_path / "prompts.parquet").read_bytes() == (tmp_path / "at_once.parquet").read_bytes()
    assert [len(chunk) for chunk in prepared.table["split"].chunks] == [7] * 8 + [4]


@given(st.lists(st.one_of(st.integers(0, 40).map(lambda one: one << 32), st.integers(0, 2**64 - 1)), max_size=300))
def test_ids_are_numbered_in_the_order_in_which_they_come(ids):
    numbering, known = Numbering(), {}
    for one in ids:
        assert numbering.find(one) == known.get(one, -1)
        assert numbering.number(one) == known.setdefault(one, len(known))
    assert len(numbering) == len(known)
    assert [numbering[number] for number in range(len(known))] == [*known]
