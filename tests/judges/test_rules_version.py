import ast
import shutil
from pathlib import Path

import pytest

from moe_safety.config import JudgesConfig
from moe_safety.errors import InputError
from moe_safety.judges import judge_inputs, rules
from moe_safety.judges.rules import rules_digest
from moe_safety.rundir import Outcome, RunDir, Work, run_work

FOLDER = Path(rules.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))


def test_the_version_is_an_input_of_whatever_asks_the_rules():
    panel = {"refusal": {"kind": "panel", "judges": [{"kind": "rules"}, {"kind": "rules"}]}}
    assert judge_inputs(JudgesConfig().refusal) == {"judge rules": rules_digest()}
    assert judge_inputs(JudgesConfig.model_validate(panel).refusal) == {
        "judge rules 1": rules_digest(),
        "judge rules 2": rules_digest(),
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_change_of_any_file_is_another_version(tmp_path, file):
    copy = shutil.copytree(FOLDER, tmp_path / "rules")
    assert rules_digest(copy) == rules_digest()
    text = (copy / file.name).read_text()
    # One character that changes.
    (copy / file.name).write_text(text[:-2] + "#" + text[-1:])
    assert rules_digest(copy) != rules_digest()


def test_a_file_more_is_another_version(tmp_path):
    copy = shutil.copytree(FOLDER, tmp_path / "rules")
    (copy / "more.py").write_text("")
    assert rules_digest(copy) != rules_digest()


def test_the_folder_holds_all_that_the_rules_depend_on():
    imported = {
        node.module
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("moe_safety")
    }
    assert {name for name in imported if not name.startswith("moe_safety.judges.rules")} == {
        "moe_safety.judges.verdict"
    }


@pytest.mark.parametrize("inputs", [{}, {"judge rules": "0" * 64}], ids=["before there were versions", "older rules"])
def test_a_stage_that_was_judged_by_other_rules_says_so(tmp_path, inputs):
    run = RunDir(str(tmp_path))

    def judged(others):
        def body():
            run.write_json("verdicts.json", [])
            return Outcome(("verdicts.json",), {})

        return run_work(run, Work("respond", {}, others=others), {}, body)

    judged(inputs)
    with pytest.raises(InputError, match="`respond` was run with another judge rules; use --force"):
        judged(judge_inputs(JudgesConfig().refusal))
