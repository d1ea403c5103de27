"""Several samples of each attack: what is planned, and what success within k tries is."""

import itertools
import math

import pytest
from pydantic import ValidationError

from moe_safety.config import EvaluateConfig
from moe_safety.evaluate.measures import compared, measures, success_at
from moe_safety.evaluate.plan import sample_id, samples_of
from moe_safety.evaluate.statistics import within
from tests.evaluate.rates import plain
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm
from tests.evaluate.test_measures import table


def samples(*verdicts, label="unsafe"):
    """A string for each attack on a goal of its own: y succeeds, n does not, ? is unparsed."""
    words = {"y": "complied", "n": "refused", "?": "unparsed"}
    columns = ("prompt_id", "goal_id", "label", "verdict", "sample")
    rows = [
        (f"p{place}", f"g{place}", label, words[one], sample)
        for place, said in enumerate(verdicts)
        for sample, one in enumerate(said)
    ]
    return table(*rows, columns=columns)


def test_only_attacks_have_several_samples_and_the_first_is_known_as_ever():
    settings = EvaluateConfig(samples=3, temperature=1.0)
    assert list(samples_of({"label": "unsafe"}, settings)) == [0, 1, 2]
    assert all(list(samples_of({"label": label}, settings)) == [0] for label in ("safe", "benign", "control"))
    assert [sample_id("p", sample) for sample in range(3)] == ["p", "p:1", "p:2"]
    with pytest.raises(ValidationError, match="samples of a greedy answer are all the same"):
        EvaluateConfig(samples=3)


def test_success_within_k_tries_is_that_of_every_choice_of_k():
    said = ("yynn", "nnnn", "nyyy")
    found = success_at(samples(*said))
    assert list(found) == ["1", "2", "4"]
    for k in (1, 2, 4):
        choices = [any(one == "y" for one in few) for attack in said for few in itertools.combinations(attack, k)]
        assert found[str(k)]["value"] == pytest.approx(sum(choices) / len(choices))
    assert (found["1"]["n"], found["1"]["n_goals"]) == (3, 3)
    assert found["4"]["value"] == plain(2, 3).value
    assert (found["4"]["low"], found["4"]["high"]) == (plain(2, 3).low, plain(2, 3).high), "a share of goals"
    check_comparison([arm("base", success_at=found)])


def test_a_sample_that_nobody_could_judge_counts_at_the_worse_end():
    found = success_at(samples("nn?n", "nnnn"))
    assert [found[k]["value"] for k in found] == [0, 0, 0]
    assert [found[k]["with_unparsed"]["value"] for k in found] == [0.125, 0.25, 0.5]
    assert {found[k]["unparsed"] for k in found} == {1}


def test_one_sample_has_no_tries_and_uneven_ones_go_as_far_as_the_fewest():
    assert success_at(samples("y", "n")) == {}
    assert list(success_at(samples("yyyyyy", "nnnnn"))) == ["1", "2", "4", "5"]


def test_all_samples_are_in_the_rate_whose_unit_is_the_goal():
    found = measures(samples("yynn", "nnnn"))["overall"]["asr"]
    assert (found["value"], found["n"], found["n_goals"]) == (0.25, 8, 2)


def test_samples_are_paired_one_by_one():
    found = compared(samples("ynnn", "nnnn"), samples("yyyy", "nnnn"))["asr"]
    assert (found["n"], found["n_goals"], found["b"], found["c"]) == (8, 2, 3, 0)


def test_forms_of_a_goal_share_it():
    found = within(2, ["a", "a", "b"], [(4, 4), (4, 0), (4, 1)], [(4, 4), (4, 0), (4, 1)])
    assert found.value == pytest.approx((1 + 0 + (1 - math.comb(3, 2) / math.comb(4, 2))) / 3)
    assert (found.n, found.n_goals) == (3, 2)
