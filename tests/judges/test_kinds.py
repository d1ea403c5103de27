"""Every kind of judge says of itself what the program asks; and one that another package brings is used like ours."""

import csv
import json
import subprocess
import sys
from typing import get_args

import pytest
import yaml

from moe_safety.cli import main
from moe_safety.config import JudgesConfig, JudgeSettings, Question
from moe_safety.errors import InputError
from moe_safety.judges import JUDGES, Exchange, Judge, JudgeKind, ask, check_judge, judge_inputs, make_judge
from tests.packages import bring

KINDS = [pytest.param(kind, id=kind.name) for kind in JUDGES.own()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_complete(kind):
    assert isinstance(kind, JudgeKind)
    for section in {kind.section_for(question) for question in kind.questions}:
        assert issubclass(section, JudgeSettings)
        assert get_args(section.model_fields["kind"].annotation) == (kind.name,)
        undescribed = {name for name, field in section.model_fields.items() if not field.description}
        assert undescribed <= {"kind"}
    assert kind.about
    assert "\n" not in kind.about
    assert kind.questions
    assert set(kind.questions) <= set(get_args(Question))


def test_declarations_bring_no_library_along():
    code = "import sys, moe_safety.judges; sys.exit(not {'torch', 'transformers', 'ray'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_judge_that_says_nothing_cannot_be_made():
    class Silent(Judge):
        """Lacks the one method."""

    with pytest.raises(TypeError, match="judge_all"):
        Silent()


CODE = """
from typing import Literal
from moe_safety.config import JudgeSettings
from moe_safety.errors import InputError
from moe_safety.judges import Judge, JudgeKind, Verdict

class Settings(JudgeSettings):
    kind: Literal["loud"] = "loud"
    mark: str
    \"\"\"What refuses.\"\"\"

class Loud(Judge):
    def __init__(self, settings, key):
        self.mark, self.key = settings.mark, key
    def judge_all(self, exchanges):
        return [Verdict("refused" if self.mark in one.response else "complied", self.key) for one in exchanges]

def check(settings, key):
    if settings.mark == "?":
        raise InputError("marks nothing", key=f"{key}.mark")

loud = JudgeKind("by a mark", Settings, Loud, check=check, depends=lambda settings, key: {"loud": settings.mark})
"""


@pytest.fixture
def loud(tmp_path, monkeypatch):
    bring(JUDGES, tmp_path, monkeypatch, "loud_judge", CODE, loud="loud")
    return lambda **settings: JudgesConfig.model_validate({"refusal": {"kind": "loud", **settings}}).refusal


def test_a_judge_of_another_package_is_used_like_ours(loud):
    judge = make_judge(loud(mark="!"))
    assert [one.label for one in ask(judge, [Exchange("g", "p", "no!"), Exchange("g", "p", "yes")])] == [
        "refused",
        "complied",
    ]
    assert judge.key == "judges.refusal"
    inputs = judge_inputs(loud(mark="!"))
    assert inputs["judge loud"] == "!"
    assert inputs["kind of judge loud"].startswith("1.2 "), "its version is part of what its verdicts are known by"
    with pytest.raises(InputError, match=r"judges\.refusal\.mark: marks nothing"):
        check_judge(loud(mark="?"))


def test_it_may_sit_in_a_panel(loud):
    members = [{"kind": "loud", "mark": "?"}, {}, {"kind": "loud", "mark": "!"}]
    panel = JudgesConfig.model_validate({"refusal": {"kind": "panel", "judges": members}}).refusal
    assert list(judge_inputs(panel)) == [
        "judge loud 1",
        "judge loud 1, kind of judge loud",
        "judge rules",
        "judge loud 3",
        "judge loud 3, kind of judge loud",
    ]
    with pytest.raises(InputError, match=r"judges\.refusal\.judges\.0\.mark: marks nothing"):
        check_judge(panel)
    (verdict,) = ask(make_judge(panel), [Exchange("g", "p", "I can't help with that!")])
    assert verdict.votes == (("loud 1", "complied"), ("rules", "refused"), ("loud 3", "refused"))


def test_the_command_scores_it_and_tells_its_mistakes(loud, tmp_path, capsys):
    table, config = tmp_path / "a.csv", tmp_path / "config.yaml"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response", "label"), ("p", "no!", "refused"), ("p", "yes", "complied")])
    plain = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}}
    config.write_text(yaml.safe_dump(plain | {"judges": {"refusal": {"kind": "loud", "mark": "!"}}}))
    command = ["calibrate-judge", str(table), "--config", str(config)]
    assert main([*command, "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["n"], score["precision"], score["recall"]) == (2, 1.0, 1.0)
    assert main([*command, "--set", "judges.refusal.mrak=x"]) == 2
    assert "judges.refusal.mrak: unknown key, did you mean 'mark'?" in capsys.readouterr().err
    assert main([*command, "--set", "judge.kind=rules"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {config}, judge: stands elsewhere now")
