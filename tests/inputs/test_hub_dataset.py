"""Datasets of the hub's kind, from a local folder."""

from __future__ import annotations

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_safety.cli import main
from moe_safety.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def user(text):
    return {"role": "user", "content": text}


def test_parquet_with_a_column_map(tmp_path, prepare):
    folder = tmp_path / "set"
    folder.mkdir()
    requests = [f"blick the zorp {number}" for number in range(2500)]
    pq.write_table(pa.table({"Behavior": requests, "Kind": ["z"] * 2500}), folder / "train.parquet")
    columns = {"goal": "Behavior", "category": "kind"}
    prepared = prepare({"dataset": str(folder), "columns": columns, "wrapper": "flip-word-order"}, max_samples=2000)
    table = prepared.table.to_pylist()
    assert prepared.counts["labels"].keys() == {"safe", "unsafe"}
    assert len(table) == 4000
    assert table[-1]["messages"][-1] == user("1999 zorp the blick")
    assert (table[-1]["category"], table[-1]["source"]) == ("z", f"{folder}:2000")
    assert prepared.counts["sources"][0]["container"] == "dataset"


def test_json_lines_of_messages_by_split(tmp_path, prepare):
    folder = tmp_path / "set"
    folder.mkdir()
    for split, text in (("train", "blick"), ("test", "dax")):
        row = {"label": "safe", "messages": [user(text), {"role": "assistant", "content": "no"}]}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    (row,) = prepare({"dataset": str(folder), "split": "test"}).table.to_pylist()
    assert (row["messages"][-1], row["answer"]) == (user("dax"), "no")


def test_a_local_folder_that_changed_is_seen(tmp_path, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("goal\nblick\ndax\n")
    (tmp_path / "config.yaml").write_text(
        f"run_dir: {tmp_path / 'run'}\nmodel: {{name: demo}}\ndata: {{attacks: [{{dataset: {folder}}}]}}\n"
    )
    prepare = ["prepare", str(tmp_path / "config.yaml")]
    assert main(prepare) == 0
    (folder / ".DS_Store").write_text("of no account")
    assert main(prepare) == 0
    (folder / "train.csv").write_text("goal\nblick\nwug\n")
    assert main(prepare) == 2
    assert str(folder) in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "elsewhere"])
def test_what_cannot_be_loaded_is_one_line(tmp_path, prepare, split):
    folder = tmp_path / "set"
    folder.mkdir()
    if split == "elsewhere":
        (folder / "train.csv").write_text("goal\nblick\n")
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        prepare({"dataset": str(folder), "split": split})
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_missing_column_is_named(tmp_path, prepare):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text\nblick\n")
    with pytest.raises(InputError, match=r"has no column 'behavior'.*'text'"):
        prepare({"dataset": str(folder), "columns": {"goal": "behavior"}})


@pytest.mark.parametrize("name", ["train.json", "train.csv", "train.parquet", "train.pkl"])
def test_nothing_is_unpickled(tmp_path, prepare, name):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    with pytest.raises(InputError):
        prepare({"dataset": str(folder)})
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
