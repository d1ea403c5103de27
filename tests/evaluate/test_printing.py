"""What `evaluate` says of a subject."""

from moe_safety.evaluate.measures import MEASURES
from moe_safety.evaluate.printing import print_subject
from tests.evaluate.rates import plain


def found(**changes):
    overall = dict.fromkeys(MEASURES, plain(1, 10).to_dict())
    return {"arm": "random", "overall": overall, "reattack": {}, "tasks": {}, **changes}


def test_no_pair_of_answers_has_no_p(capsys):
    print_subject(found(compared={"asr": {"n": 0, "n_goals": 0, "b": 0, "c": 0, "p": None}}), skipped=False)
    assert "against the base" not in capsys.readouterr().out
    print_subject(found(compared={"asr": {"n": 4, "n_goals": 2, "b": 3, "c": 1, "p": 0.625}}), skipped=False)
    assert "against the base: 3 attacks fail now, 1 succeed now, of n=4 of 2 goals, p = 0.62" in capsys.readouterr().out


def test_a_metric_without_a_value_is_said_so(capsys):
    print_subject(found(tasks={"arc": {"acc": 0.25, "stderr": None}}), skipped=False)
    assert "task arc: acc 0.25, stderr n/a" in capsys.readouterr().out
