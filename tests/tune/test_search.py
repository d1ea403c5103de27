"""A search that is begun again knows what was tried, and ASHA what was reached."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from moe_safety.tune.records import Record, id_of
from moe_safety.tune.search import asha, left_of_plan, optuna_search
from tests.tune.sweeps import finished, sweep_of


def test_a_grid_is_every_combination_once():
    sweep = sweep_of(
        search="grid",
        space={"train.num_epochs": {"choice": [1, 2, 3]}, "train.masking": {"choice": ["union", "gradient"]}},
    )
    assert len({id_of(point) for point in sweep.points()}) == 6
    assert sweep.points() == sweep.points()


def test_a_random_search_draws_within_bounds_and_never_twice():
    space = {
        "identify.top_k": {"log_integer": [2, 32]},
        "train.num_epochs": {"integer": [1, 3]},
        "train.learning_rate": {"log_uniform": [1e-5, 1e-3]},
        "identify.threshold": {"uniform": [0.0, 0.1]},
    }
    points = sweep_of(trials=300, space=space).points()
    assert len({id_of(point) for point in points}) == 300
    ks = [point["identify.top_k"] for point in points]
    assert (min(ks), max(ks)) == (2, 32)
    assert sum(k < 8 for k in ks) == pytest.approx(150, abs=40), "half of the orders of magnitude lie below"
    assert {point["train.num_epochs"] for point in points} == {1, 2, 3}
    assert all(1e-5 <= point["train.learning_rate"] <= 1e-3 for point in points)
    assert sum(point["train.learning_rate"] < 1e-4 for point in points) == pytest.approx(150, abs=40)
    assert sweep_of(trials=300, space=space).points() == points
    assert len(sweep_of(trials=50, space={"train.num_epochs": {"integer": [1, 3]}}).points()) == 3


def test_what_is_over_is_left_out_and_what_was_cut_off_is_not():
    sweep = sweep_of(trials=6)
    first, second, third, *others = sweep.points()
    records = [finished(first, {"safety_score": 1.0}), Record(second), finished(third, status="failed")]
    assert left_of_plan(sweep, records) == [second, *others]


def value(point):
    return -abs(point["identify.top_k"] - 7) - (point["train.masking"] == '"union"')


def told(search, n):
    """Asks for `n` trials and tells what each reached."""
    found = []
    for number in range(n):
        point = search.suggest(f"t{number}")["point"]
        search.on_trial_complete(f"t{number}", {"safety_score": value(point)})
        found.append(point)
    return found


def test_optuna_tries_no_point_twice_and_ends_when_all_are_tried():
    """Also when trials run side by side, before any has told what it reached."""
    sweep = sweep_of(search="optuna", trials=30, space={"identify.top_k": {"integer": [2, 5]}, **_masking()})
    search = optuna_search(sweep, [finished({"identify.top_k": 2, "train.masking": '"union"'}, {"safety_score": 0.1})])
    found = []
    for number in range(7):
        suggested = search.suggest(f"t{number}")
        found.append(tuple(suggested["point"].values()))
        if number > 2:
            search.on_trial_complete(f"t{number - 3}", {"safety_score": value(suggested["point"])})
    assert len(set(found)) == 7
    assert (2, '"union"') not in found
    assert search.suggest("more") == search.FINISHED


def test_optuna_begins_with_what_was_cut_off_and_has_learnt_from_the_rest():
    sweep = sweep_of(search="optuna", trials=30, space={"identify.top_k": {"integer": [2, 60]}, **_masking()})
    before = told(optuna_search(sweep, []), 12)
    records = [finished(point, {"safety_score": value(point)}) for point in before]
    cut_off = {"identify.top_k": 59, "train.masking": '"union"'}
    search = optuna_search(sweep, [*records, Record(cut_off)])
    after = told(search, 18)
    assert after[0] == cut_off
    near = sum(abs(point["identify.top_k"] - 7) < 12 for point in after)
    afresh = told(optuna_search(sweep.model_copy(update={"seed": 5}), []), 9)
    assert near > 9, "it tries near what was good; by chance it would be 5"
    assert afresh != after[:9]


def test_optuna_takes_several_objectives_and_trials_that_failed():
    sweep = sweep_of(search="optuna", objectives=["asr", "over_refusal"], space=_masking())
    point = {"train.masking": '"union"'}
    records = [finished(point, {"asr": 0.5, "over_refusal": 0.25}), finished(point, status="failed", error="x")]
    search = optuna_search(sweep, records)
    assert search.suggest("a")["point"]["train.masking"] in ('"union"', '"gradient"')
    search.on_trial_complete("a", {"asr": 0.1, "over_refusal": 0.0})


def _masking():
    return {"train.masking": {"choice": ["gradient", "union"]}}


def test_asha_goes_on_from_what_earlier_trials_reached():
    """The same trials lead to the same decisions, told to one scheduler, or half of them as records to another."""
    sweep = sweep_of(asha={"grace_rounds": 1, "reduction": 2})
    scores = {k: [k / 10, k / 10, k / 10, k / 10] for k in (5, 9, 3, 8, 7)}

    def run(scheduler, k):
        trial, reached = SimpleNamespace(trial_id=str(k)), []
        scheduler.on_trial_add(None, trial)
        for number, score in enumerate(scores[k], 1):
            reached.append(score)
            if scheduler.on_trial_result(None, trial, {"round": number, "safety_score": score}) == TrialScheduler.STOP:
                break
        return reached

    whole = asha(sweep, 4, [])
    expected = {k: run(whole, k) for k in scores}
    assert len({len(reached) for reached in expected.values()}) > 1, "some are stopped sooner than others"
    first = list(scores)[:3]
    records = [
        finished({"identify.top_k": k, "train.masking": '"union"'}, *({"safety_score": score} for score in expected[k]))
        for k in first
    ]
    again = asha(sweep, 4, records)
    assert {k: run(again, k) for k in scores if k not in first} == {k: expected[k] for k in scores if k not in first}
    assert asha(sweep_of(), 4, []) is None
