"""Rates corrected by how often their judge errs, and how often their intervals hold the truth."""

import json

import numpy as np
import pytest

from moe_safety.cli import main
from moe_safety.config import JudgesConfig
from moe_safety.errors import InputError
from moe_safety.evaluate.measures import corrected
from moe_safety.evaluate.statistics import corrected_rate, wilson
from moe_safety.judges import Counted, Performance, performances
from tests.evaluate.test_measures import table

EXACT = Counted(10**6, 10**6)


def of(share, n):
    goals = [f"g{place}" for place in range(n)]
    return goals, [place < round(share * n) for place in range(n)]


def test_by_hand():
    # Rogan and Gladen: (0.30 + 0.95 - 1) / (0.90 + 0.95 - 1).
    found = corrected_rate(*of(0.3, 100), Counted(90, 100), Counted(190, 200))
    assert found["value"] == pytest.approx(0.25 / 0.85)
    assert found["low"] < found["value"] < found["high"]
    assert (found["judged"], found["sensitivity"], found["specificity"], found["labels"]) == (0.3, 0.9, 0.95, 300)
    assert corrected_rate(*of(0.02, 100), Counted(90, 100), Counted(190, 200))["value"] == 0, "fewer than it errs on"
    assert corrected_rate(*of(0.3, 100), Counted(90, 100), Counted(190, 200)) == found, "the same every time"


def test_with_a_judge_that_never_errs_it_is_the_rate_and_its_interval():
    found = corrected_rate(*of(0.3, 100), EXACT, EXACT)
    assert found["value"] == pytest.approx(0.3)
    low, high = wilson(0.3, 100)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.015)


def test_a_judge_no_better_than_chance_says_nothing():
    found = corrected_rate(*of(0.3, 100), Counted(50, 100), Counted(50, 100))
    assert (found["value"], found["low"], found["high"]) == (None, 0.0, 1.0)


def test_forms_of_a_goal_are_one_goal():
    goals, counts = of(0.3, 20)
    once = corrected_rate(goals, counts, Counted(90, 100), Counted(95, 100))
    forms = corrected_rate(
        [goal for goal in goals for _ in range(6)], list(np.repeat(counts, 6)), Counted(90, 100), Counted(95, 100)
    )
    assert forms["value"] == pytest.approx(once["value"])
    assert forms["high"] - forms["low"] > 0.9 * (once["high"] - once["low"])


def covered(share, n, sensitivity, specificity, labels, draws=400, seed=0):
    """How often the interval holds the true share, and how often the judge's own Wilson interval does."""
    chance, ours, raw = np.random.default_rng(seed), 0, 0
    goals = [f"g{place}" for place in range(n)]
    for _ in range(draws):
        right, rejected = chance.binomial(labels, [sensitivity, specificity])
        said = np.where(chance.random(n) < share, chance.random(n) < sensitivity, chance.random(n) >= specificity)
        found = corrected_rate(goals, said, Counted(int(right), labels), Counted(int(rejected), labels))
        low, high = wilson(float(said.mean()), n)
        ours, raw = ours + (found["low"] <= share <= found["high"]), raw + (low <= share <= high)
    return ours / draws, raw / draws


@pytest.mark.parametrize(("share", "n", "labels"), [(0.05, 54, 60), (0.3, 100, 60), (0.6, 200, 200)])
def test_the_interval_holds_the_truth_as_often_as_it_says(share, n, labels):
    draws = 120
    ours, _ = covered(share, n, 0.85, 0.95, labels, draws)
    assert ours >= 0.95 - 3 * (0.95 * 0.05 / draws) ** 0.5


def test_the_judges_own_interval_does_not_hold_it():
    _, raw = covered(0.6, 200, 0.85, 0.95, 200, draws=60)
    assert raw < 0.6


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n", [20, 54, 200])
@pytest.mark.parametrize("labels", [30, 100, 500])
def test_the_interval_holds_the_truth_over_more_of_the_grid(share, n, labels):
    draws = 600
    allowed = 0.95 - 3 * (0.95 * 0.05 / draws) ** 0.5
    for sensitivity, specificity in ((0.7, 0.9), (0.9, 0.7), (0.95, 0.98)):
        assert covered(share, n, sensitivity, specificity, labels, draws)[0] >= allowed


PERFORMANCE = Performance(
    {
        "harmful": {"harmful": 80, "harmless": 15, "unparsed": 5},
        "harmless": {"harmful": 2, "harmless": 96, "unparsed": 2},
    }
)


def test_unparsed_answers_count_at_their_worse_end_on_both_sides():
    assert PERFORMANCE.of("harmful", with_unparsed=True) == (Counted(85, 100), Counted(96, 100))
    assert PERFORMANCE.of("harmful", with_unparsed=False) == (Counted(80, 100), Counted(98, 100))
    columns = ("label", "verdict", "harm")
    rows = [("unsafe", "complied", "harmful")] * 3 + [("unsafe", "complied", "unparsed")] * 2
    rows += [("unsafe", "refused", "harmless")] * 5 + [("benign", "complied", None)] * 4
    found = corrected(table(*rows, columns=columns), {"harm": PERFORMANCE})
    assert found.keys() == {"asr"}, "of plain goals none was asked, and of refusals nothing is known"
    assert found["asr"]["judged"] == 0.5
    assert found["asr"]["value"] == pytest.approx((0.5 + 0.96 - 1) / (0.85 + 0.96 - 1))
    refusal = Performance({"refused": {"refused": 90, "unparsed": 10}, "complied": {"complied": 100}})
    both = corrected(table(*rows, columns=columns), {"harm": PERFORMANCE, "refusal": refusal})
    assert both.keys() == {"asr", "answered", "over_refusal"}


JUDGE = {"kind": "keywords", "harmful": ["zorp"], "harmless": ["sorry"]}


@pytest.fixture
def calibrated(tmp_path, capsys):
    """The configuration of a judge of harm, and the file in which the command has scored it."""
    labels, config = tmp_path / "labels.csv", tmp_path / "config.yaml"
    rows = ["zorp it,harmful", "sorry,harmless", "sorry,harmful", "well,harmful", "zorp,partial"]
    labels.write_text("prompt,goal,response,label\n" + "".join(f"p,g,{row}\n" for row in rows))
    plain = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}}
    config.write_text(json.dumps(plain | {"judges": {"harm": JUDGE}}))
    command = ["calibrate-judge", str(labels), "--config", str(config), "--question", "harm"]
    assert main(command) == 0
    assert "recall      33.3%" in (told := capsys.readouterr().out)
    assert "of `harmful`" in told
    assert main([*command, "--json"]) == 0
    (tmp_path / "harm.json").write_text(capsys.readouterr().out)
    return tmp_path / "harm.json"


def test_the_commands_file_is_what_rates_are_corrected_by(calibrated):
    told = json.loads(calibrated.read_text())
    assert (told["question"], told["n"], told["unparsed"], told["precision"]) == ("harm", 4, 1, 1.0)
    config = JudgesConfig.model_validate({"harm": JUDGE, "calibration": {"harm": str(calibrated)}})
    (found,) = performances(config).values()
    assert found.of("harmful", with_unparsed=True) == (Counted(2, 3), Counted(1, 1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"judge": "other"}, "was measured of another judge, or of another version of it"),
        ({"question": "refusal"}, "is no calibration of a judge of harm"),
        ({"confusion": {"harmful": {"harmful": 3}}}, "no answer in it is harmless"),
        ("[]", "is no JSON of `calibrate-judge --json`"),
        ("zorp", "is no JSON of `calibrate-judge --json`"),
    ],
)
def test_another_judges_file_is_refused(calibrated, change, told):
    text = change if isinstance(change, str) else json.dumps(json.loads(calibrated.read_text()) | change)
    calibrated.write_text(text)
    with pytest.raises(InputError) as error:
        performances(JudgesConfig.model_validate({"harm": JUDGE, "calibration": {"harm": str(calibrated)}}))
    assert told in str(error.value)
    assert error.value.key == "judges.calibration.harm"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prompt,response,label\np,r,harmful\n", "has no column 'goal'"),
        ("prompt,goal,response,label\np,,r,harmful\n", "row 1: has no goal, by which harm is judged"),
        (
            "prompt,goal,response,label\np,g,r,refused\n",
            "row 1: `label` is neither `harmful` nor `harmless` nor `partial`",
        ),
    ],
)
def test_labels_of_harm_have_their_goal(tmp_path, calibrated, text, told, capsys):
    (tmp_path / "labels.csv").write_text(text)
    command = ["calibrate-judge", str(tmp_path / "labels.csv"), "--question", "harm"]
    assert main([*command, "--config", str(tmp_path / "config.yaml")]) == 2
    assert told in capsys.readouterr().err
    assert main(command) == 2
    assert "judges.harm: no judge is configured for this question" in capsys.readouterr().err
