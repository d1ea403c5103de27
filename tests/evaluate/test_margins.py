"""How much worse than the base an arm is, with intervals, and whether the margins hold."""

import math

import numpy as np
import pyarrow as pa
import pytest

from moe_safety.config import MarginsConfig
from moe_safety.evaluate.differences import of_answers, of_losses, of_tasks
from moe_safety.evaluate.harness import Solved
from moe_safety.evaluate.margins import against, margins_page
from moe_safety.evaluate.seeds import worst_differences
from moe_safety.evaluate.statistics import difference, mean_difference
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm

MARGINS = MarginsConfig()


def answers(*verdicts, label="benign"):
    rows = [(f"p{place}", f"g{place}", label, verdict) for place, verdict in enumerate(verdicts)]
    return pa.Table.from_pylist(
        [dict(zip(("prompt_id", "goal_id", "label", "verdict"), row, strict=True)) for row in rows]
    )


def test_unparsed_answers_stand_at_their_worse_end_on_both_sides():
    """The arm's worst against the base's best, whatever either babbles."""
    mixed = answers("refused", "unparsed", "unparsed", "complied")
    assert of_answers(mixed, mixed)["over_refusal"]["value"] == 0.5
    babble, plain = answers(*["unparsed"] * 40), answers(*["complied"] * 40)
    assert of_answers(babble, plain)["over_refusal"]["value"] == 1.0
    assert of_answers(plain, babble)["over_refusal"]["value"] == 0.0, "the base's babble excuses nothing"
    assert of_answers(answers("refused"), answers("unparsed"))["over_refusal"]["value"] == 1.0
    assert list(of_answers(answers("refused", label="control"), answers("refused"))) == ["over_refusal_control"]


def test_a_margin_holds_only_where_the_whole_interval_is_within():
    few, many = (of_answers(answers(*["complied"] * n), answers(*["complied"] * n)) for n in (20, 400))
    assert few["over_refusal"]["high"] > 0.05
    assert against(few, MARGINS)["over_refusal"]["holds"] is None, "twenty answers alike show nothing"
    assert against(many, MARGINS)["over_refusal"]["holds"] is True
    worse = of_answers(answers(*["refused"] * 40), answers(*["complied"] * 40))
    assert against(worse, MARGINS)["over_refusal"]["holds"] is False
    alone = {"benign_loss": mean_difference(["g"], [0.0], [5])}
    assert against(alone, MARGINS)["benign_loss"]["holds"] is None


def test_the_loss_is_told_in_nats_per_token_over_goals():
    before = {f"p{place}": (10.0, 10) for place in range(30)}
    goals = {prompt: f"g{int(prompt[1:]) // 2}" for prompt in before}
    same = of_losses(before, before, goals)["benign_loss"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 30, "n_goals": 15}
    moved = {prompt: (12.0 if place % 4 < 2 else 10.0, 10) for place, prompt in enumerate(before)}
    found = of_losses(moved, before, goals)["benign_loss"]
    assert found["value"] == pytest.approx(0.2 * 16 / 30)
    assert found["low"] < found["value"] < found["high"] < 0.2
    assert of_losses({}, before, goals) == {}


def test_tasks_are_compared_question_by_question():
    def solved(right, n=1000):
        return Solved({}, {"arc": {"acc": {f"arc:{place}": float(place < right) for place in range(n)}}})

    found = against(of_tasks(solved(800), solved(800)), MARGINS)["arc.acc"]
    assert (found["value"], found["holds"], found["margin"]) == (0.0, True, 0.02)
    assert found["high"] < 0.005, "they are the same questions"
    assert against(of_tasks(solved(700), solved(800)), MARGINS)["arc.acc"]["holds"] is False
    assert of_tasks(solved(1), Solved({}, {})) == {}


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("forms", [1, 3])
def test_the_interval_of_a_difference_holds_it_as_often_as_it_says(share, forms):
    """Answers to one goal are alike, and so are two models' answers to one prompt."""
    chance, goals, draws, held = np.random.default_rng(0), 40, 300, 0
    names = np.repeat([f"g{place}" for place in range(goals)], forms)
    for _ in range(draws):
        hard = np.repeat(chance.random(goals), forms)
        own = chance.random(goals * forms)
        now, then = ((0.5 * hard + 0.5 * own) < edge for edge in (0.2 + share, 0.2))
        found = difference(names, now, then)
        held += found["low"] <= _true(0.2 + share) - _true(0.2) <= found["high"]
    assert held / draws >= 0.95 - 3 * (0.95 * 0.05 / draws) ** 0.5


def _true(edge):
    """How often the mean of two even draws lies below: a triangle."""
    return 2 * edge**2 if edge <= 0.5 else 1 - 2 * (1 - edge) ** 2


def test_of_several_seeds_the_worst_is_told():
    good, bad = ({"benign_loss": {"value": v, "low": v, "high": v, "margin": 0.1, "holds": v < 0.1}} for v in (0, 1))
    assert worst_differences([good, bad])["benign_loss"]["holds"] is False
    margins = against(of_answers(answers(*["refused"] * 9), answers(*["complied"] * 9)), MARGINS)
    found = [arm("base", verify="n/a"), arm("selective-causal", margins=margins)]
    check_comparison(found)
    assert "| selective-causal | +1.000 [+0.577, +1.000] worse |" in " ".join(margins_page(found).split())
    found[1]["repeats"] = {"seeds": [1, 2], "each": [{"margins": good}, {"margins": bad}]}
    assert "benign loss (margin 0.1)" in margins_page(found)
    assert "+1.000 [+1.000, +1.000] worse" in margins_page(found)
    assert margins_page([arm("base")]) == ""
    assert math.isfinite(margins["over_refusal"]["low"])
