import inspect

import pytest

from benchmarks.organism import base, behaviour, sizes, steps
from benchmarks.organism.__main__ import main
from benchmarks.organism.marker import ATTRIBUTE, check_marked
from benchmarks.organism.own_text import OwnText
from benchmarks.organism.sizes import Course, Recipe, Size
from benchmarks.organism.steps import STEPS, TEXT, Bench
from moe_safety.errors import InputError
from moe_safety.models.demo.tokenizer import demo_tokenizer
from tests.organism import dense_model

COURSE = Course(2, 8, warm_up=1)
TINY = Size(2, sizes.SMOKE, 32, 6, 16, 8, COURSE, COURSE, COURSE, 8, 2, COURSE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("organism")


@pytest.fixture
def bench(folder, monkeypatch):
    """A bench whose package is not fetched, and whose dense model is a tiny one."""
    monkeypatch.setattr(behaviour, "MOST", 3)
    monkeypatch.setitem(sizes.SIZES, "tiny", TINY)
    monkeypatch.setattr(steps, "RECIPES", {"slices": Recipe(4, 2, width=0.5, kept=1.0, louder=2.0, spread=0.0)})
    monkeypatch.setattr(base, "fetch", lambda folder: (folder.mkdir(parents=True), (folder / base.FILE).touch()))
    monkeypatch.setattr(base, "load", lambda folder, layers, device: (dense_model(), demo_tokenizer()))
    return Bench(str(folder), "tiny", "mixtral", 0)


def test_steps_are_done_once_and_kept(bench, capsys):
    for step in STEPS:
        bench.do(step)
    done = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " s {" in line]
    assert done == ["base", "text", *(f"{step}/mixtral-0" for step in list(STEPS)[2:])]
    model = bench.load("aligned")
    assert check_marked(model) == base.SHA256
    found = bench.run.read_json(bench.file("examined.json"))
    assert {"ratio", "cost of routing at random", "cosine", "bits about topic", "ability"} <= set(found)
    assert bench.run.read_json(bench.file("behaviour.json"))["near misses"]["n"] == 3


def test_a_step_that_stands_is_not_done_again(bench, capsys):
    bench.do("behave")
    assert capsys.readouterr().out.count("stands") == 6


def test_a_step_of_another_size_is_refused(bench, monkeypatch):
    monkeypatch.setattr(bench, "size", Size(**{**vars(TINY), "craft": Course(3, 8, warm_up=1)}))
    with pytest.raises(InputError, match=r"craft.steps = 2, now 3"):
        bench.do("craft")


def test_own_text_keeps_its_rows(bench):
    text = OwnText.from_bytes(bench.run.read_bytes(TEXT))
    held_out, taught = (text.rows(held_out=out) for out in (True, False))
    assert (len(held_out), len(taught)) == (2, 30)
    assert len(text.topics_of(held_out=True)) == 2
    assert sum(len(prompt) + len(answer) for prompt, answer in held_out + taught) == len(text.tokens)
    assert all(1 <= len(answer) <= 6 for _, answer in taught)


def test_models_without_the_marker_are_refused(bench):
    with pytest.raises(InputError, match="no organism of this benchmark"):
        check_marked(dense_model())
    model = bench.load("upcycled")
    delattr(model.config, ATTRIBUTE)
    model.save_pretrained(bench.run.path(bench.file("foreign")))
    with pytest.raises(InputError, match="no organism of this benchmark"):
        bench.load("foreign")


def test_another_file_than_the_package_s_is_refused(tmp_path):
    (tmp_path / base.FILE).write_bytes(b"GGUF of somebody else")
    with pytest.raises(InputError, match="is not the SmolLM2"):
        base.load(tmp_path, 30, "cpu")


def test_no_command_takes_a_model_or_data(capsys):
    with pytest.raises(SystemExit):
        main_with(["--help"])
    offered = capsys.readouterr().out
    assert {word for word in offered.replace(",", " ").split() if word.startswith("--")} == {
        "--help",
        "--size",
        "--layout",
        "--seed",
        "--out",
    }
    assert list(inspect.signature(Bench).parameters) == ["out", "size", "layout", "seed"]


def main_with(arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["organism", *arguments])
        main()
