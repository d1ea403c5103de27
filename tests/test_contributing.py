"""The recipes of CONTRIBUTING.md: each file that they show is registered when it is imported, and complete."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import moe_safety.everything  # noqa: F401
from moe_safety.arms import ARMS, LOSSES
from moe_safety.config import ModelConfig
from moe_safety.config.judges import JudgesConfig
from moe_safety.generation import ENGINES, Limits
from moe_safety.identify import read_selection
from moe_safety.inputs import FORMATS
from moe_safety.judges import JUDGES, Exchange, ask, make_judge
from moe_safety.models.families import FAMILIES
from moe_safety.pipeline import STAGES, in_order, run_one
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES
from tests.arms import test_declared as arms
from tests.identify.synthetic import invent, with_settings
from tests.judges import test_kinds as kinds
from tests.scores import test_declarations as scores

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^### [^\n]*: `(\S+\.py)`\n[^#]*?```python\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))
REGISTRIES = [SCORES, STAGES, ARMS, LOSSES, JUDGES, FORMATS, FAMILIES, ENGINES]


@pytest.fixture
def added(monkeypatch, tmp_path_factory):
    """The files as if they were in the tree, for as long as the test lasts; the new names by registry."""
    folder, before = tmp_path_factory.mktemp("tree"), [registry.names() for registry in REGISTRIES]
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_own", dict(registry._own))
    for path, code in FILES.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        spec = spec_from_file_location(name, file)
        monkeypatch.setitem(sys.modules, name, module_from_spec(spec))
        spec.loader.exec_module(sys.modules[name])
    return {
        registry.kind: set(registry.names()) - set(names) for registry, names in zip(REGISTRIES, before, strict=True)
    }


def test_there_is_a_recipe_for_each_thing_and_each_adds_what_it_says(added):
    assert added == {
        "score": {"log_ratio", "visited"},
        "stage": {"visits"},
        "arm": {"last-layers"},
        "loss": {"rows"},
        "kind of judge": {"opening"},
        "format": {"wishes"},
        "model family": {"wander"},
        "engine": {"parrot"},
    }
    assert not [path for path in FILES if (ROOT / path).exists()], "recipes show new files"
    assert {registry.group.partition(".")[2] for registry in REGISTRIES} == set(
        re.findall(r"`(?:moe_safety)?\.(\w+)`", re.search(r"The groups are (.*?)\. The", TEXT, re.DOTALL)[1])
    )


def test_tests_and_documents_that_are_named_are_there():
    named = {name for name in re.findall(r"(?:tests|docs|moe_safety)/[\w/]+\.\w+", TEXT) if name not in FILES}
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["log_ratio", "visited"])
@pytest.mark.usefixtures("added")
def test_scores_are_complete(name, tmp_path):
    score = SCORES.get(name)
    scores.test_a_score_says_what_it_is(score)
    scores.test_a_formula_gives_each_expert_a_value_that_can_be_drawn(score)
    scores.test_a_score_is_documented_with_its_method(score)
    assert score.reads.stage in STAGES


@pytest.mark.usefixtures("added")
def test_the_stage_runs_and_its_method_selects(tmp_path, capsys):
    names = [stage.name for stage in in_order(STAGES)]
    assert names.index("capture") < names.index("visits") < names.index("identify")
    config = with_settings(invent().write(tmp_path), method="visits", top_k=2)
    run_one("visits", config)
    assert run_one("visits", config)["skipped"]
    assert "visits: counted" in capsys.readouterr().out
    run_one("identify", config)
    assert len(read_selection(RunDir(config.run_dir)).experts) == 2
    ranked = with_settings(config, method="routing", score="log_ratio", threshold=0.0)
    run_one("identify", ranked, force=True)
    assert read_selection(RunDir(config.run_dir)).score == "log_ratio"


@pytest.mark.usefixtures("added")
def test_the_arm_and_the_loss_are_complete():
    arms.test_an_arm_is_complete("last-layers")
    arms.test_a_loss_is_complete("rows")
    import torch

    losses = type("Measured", (), {"losses": torch.tensor([1.0, 3.0, 5.0]), "row": torch.tensor([0, 0, 1])})
    assert LOSSES.get("rows").terms(type("Passed", (), {"now": losses})) == 7


@pytest.mark.usefixtures("added")
def test_the_judge_is_complete_and_judges():
    kinds.test_every_kind_is_complete(JUDGES.get("opening"))
    judge = make_judge(JudgesConfig.model_validate({"refusal": {"kind": "opening"}}).refusal)
    said = [Exchange("fep", "fep", answer) for answer in ("Nix, no zorps.", "Sure: a zorp.", "")]
    assert [verdict.label for verdict in ask(judge, said)] == ["refused", "complied", "unparsed"]


@pytest.mark.usefixtures("added")
def test_the_format_reads_its_example(tmp_path):
    form = FORMATS.get("wishes")
    assert form.about
    assert form.example.keys() <= form.columns
    assert form.matches(form.columns)
    assert form.precedence not in {other.precedence for other in FORMATS.own() if other is not form}


@pytest.mark.usefixtures("added")
def test_the_engine_answers_within_its_limits():
    engine = ENGINES.get("parrot")(ModelConfig(name="demo"), Limits(4), 1)
    (short, long) = engine.answer([[5, 6], [5, 6, 7, 8, 9]], [0.0, 1.0], [1, 2])
    assert (short.tokens, short.ended) == ([5, 6], True)
    assert (long.tokens, long.ended) == ([5, 6, 7, 8], False)
