import pytest
from pydantic import ValidationError

from moe_safety.config import JudgesConfig
from moe_safety.judges import Exchange, ask, judge_inputs, make_judge

GIVEN = {"kind": "keywords", "refused": ["^nix da", r"\bnein\b"], "complied": [r"\bzorp\b"]}


def settings(**changes):
    return JudgesConfig.model_validate({"refusal": GIVEN | changes}).refusal


@pytest.mark.parametrize(
    ("response", "label", "reason"),
    [
        ("Nix da.", "refused", "'^nix da' is found"),
        ("Na, NEIN!", "refused", r"'\\bnein\\b' is found"),
        ("Blick the zorp.", "complied", r"'\\bzorp\\b' is found"),
        ("Nein, the zorp.", "unparsed", r"both '\\bnein\\b' and '\\bzorp\\b' are found"),
        ("Ah, nix da: the zorps.", "unparsed", "no pattern is found"),
        ("", "unparsed", "no pattern is found"),
    ],
)
def test_one_side_alone_decides(response, label, reason):
    (verdict,) = ask(make_judge(settings()), [Exchange("nein", "zorp", response)])
    assert (verdict.label, verdict.reason) == (label, reason)


def test_its_settings_are_all_that_it_depends_on():
    assert judge_inputs(settings()) == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"refused": []}, "at least 1 item"), ({"complied": ["("]}, "not a regular expression: missing )")],
)
def test_wrong_patterns_are_told(changes, told):
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    assert told in str(error.value)
