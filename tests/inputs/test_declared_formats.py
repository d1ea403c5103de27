"""Every format says of itself what the program asks; and one that another package brings is read like ours."""

import json
from pathlib import Path

import pytest

from moe_safety.config import DataConfig
from moe_safety.config.load import parse_config
from moe_safety.errors import InputError
from moe_safety.inputs import FORMATS, Format
from moe_safety.inputs.prepare import prepare as prepare_stage
from tests.packages import bring

OWN = FORMATS.own()


@pytest.mark.parametrize("form", OWN, ids=lambda form: form.name)
def test_every_format_is_complete_and_its_example_is_read(form, write, prepare):
    assert isinstance(form, Format)
    assert form.about
    assert form.example.keys() <= form.columns
    prepared = prepare(write(f"{form.name}.json", [dict(form.example)]))
    (counts,) = prepared.counts["sources"]
    assert (counts["format"], counts["rows"], counts["dropped"]) == (form.name, 1, {})


FILES = [(form.name, name, text) for form in OWN for name, text in form.files.items()]


@pytest.mark.parametrize(("form", "name", "text"), FILES, ids=[name for _, name, _ in FILES])
def test_every_file_that_the_documents_show_is_read(form, name, text, write, prepare):
    """All of its rows, as attacks or, where they say that they are safe, as harmless requests."""
    assert text in Path("docs/data.md").read_text(), "run `make docs`"
    path = write("shown.csv", text)
    prepared = prepare(path, benign=[path] if ",safe," in text else [])
    assert {one["format"] for one in prepared.counts["sources"]} == {form}
    assert len(prepared.table) == len(text.splitlines()) - 1
    assert not any("Sure" in str(row["target"]) for row in prepared.table.to_pylist()), "the attacker's wish"


def test_the_lists_that_people_have_are_among_them():
    shown = " ".join(name for _, name, _ in FILES)
    assert all(name in shown for name in ("plain", "AdvBench", "JailbreakBench", "XSTest"))


def test_the_order_of_formats_is_declared():
    assert len({form.precedence for form in OWN}) == len(OWN)


CODE = """
from moe_safety.inputs import Format
from moe_safety.inputs.record import Row

def rows(records, context):
    for record in records:
        yield Row(record.number, "safe", record.goal("wish"), category="brought")

wishes = Format(
    name="wishes",
    about="wishes",
    example={"wish": "blick the zorp"},
    columns=frozenset({"wish"}),
    matches=lambda columns: not columns.isdisjoint({"wish", "goal"}),
    rows=rows,
    precedence=0,
)
"""


@pytest.fixture
def wishes(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    bring(FORMATS, tmp_path / "package", monkeypatch, "brought_wishes", CODE, wishes="wishes")


def test_a_format_of_another_package_is_read_like_ours(wishes, write, prepare):
    path = write("a.json", [{"wish": "blick the zorp"}, {"wish": "fep the quib"}])
    for source in (path, {"path": path, "format": "wishes"}):
        prepared = prepare(source)
        assert prepared.counts["sources"][0]["format"] == "wishes"
        assert prepared.table["goal"].to_pylist() == ["blick the zorp", "fep the quib"]
    renamed = write("b.json", [{"hope": "blick the zorp"}])
    source = {"path": renamed, "format": "wishes", "columns": {"wish": "hope"}}
    assert prepare(source).table["category"].to_pylist() == ["brought"]


def test_it_changes_nothing_about_files_of_our_formats(wishes, write, prepare):
    assert prepare(write("a.json", [{"goal": "blick the zorp"}])).counts["sources"][0]["format"] == "goals_csv"


def test_its_version_is_part_of_what_was_prepared(wishes, write, tmp_path):
    def config(path):
        data = {"attacks": [{"path": path}], "test_fraction": 0.0, "validation_fraction": 0.0}
        return parse_config({"run_dir": str(tmp_path / "run"), "model": {"name": "demo"}, "data": data}, "c.yaml")

    path = write("a.jsonl", [{"wish": "blick the zorp"}])
    assert prepare_stage(config(path))["inputs"]["format wishes"].startswith("1.2 ")
    assert prepare_stage(config(path))["skipped"]
    module = tmp_path / "package" / "brought_wishes.py"
    module.write_text(CODE + "# reads otherwise\n")
    with pytest.raises(InputError, match="`prepare` was run with another format wishes; use --force"):
        prepare_stage(config(path))


def test_a_name_that_no_format_has_is_told_with_the_nearest():
    with pytest.raises(ValueError, match="there is no format 'goal_csv', did you mean 'goals_csv'"):
        DataConfig.model_validate({"attacks": [{"path": "a", "format": "goal_csv"}]})


def test_examples_can_be_written_as_they_are():
    assert all(json.loads(json.dumps(form.example)) == form.example for form in OWN)
