"""The best trial, and the trades between objectives, by brute force."""

import numpy as np
import pytest

from moe_safety.config.load import parse_config
from moe_safety.tune.outcome import best_of, on_front, ranked, results_table
from moe_safety.tune.tune import _of_training
from tests.tune.sweeps import finished, sweep_of


def point(k, masking="gradient"):
    return {"identify.top_k": k, "train.masking": f'"{masking}"'}


def trial(k, asr, over_refusal=0.0, score=None, **more):
    measured = {"safety_score": 1 - asr - over_refusal if score is None else score, "asr": asr}
    return finished(point(k), measured | {"over_refusal": over_refusal}, **more)


def test_the_best_by_the_objective_then_by_the_other_measures():
    trials = [trial(2, 0.5), trial(3, 0.1, 0.1, score=0.8), trial(4, 0.2, 0.0, score=0.8), trial(5, 0.3)]
    assert [record.point["identify.top_k"] for record in ranked(sweep_of(), trials)] == [3, 4, 5, 2]
    by_refusal = sweep_of(objectives=["over_refusal"])
    assert best_of(by_refusal, trials).point["identify.top_k"] == 4, "a tie: safety_score decides"


def test_trials_that_failed_or_were_stopped_are_never_best():
    trials = [trial(2, 0.0, status="stopped"), trial(3, 0.0, status="failed"), trial(4, 0.9)]
    assert best_of(sweep_of(), trials).point["identify.top_k"] == 4
    assert best_of(sweep_of(), trials[:2]) is None
    assert best_of(sweep_of(), [trial(2, float("nan"))]) is None


def test_between_objectives_their_sum_decides():
    """An attack that fails because everything is refused is no success."""
    trials = [trial(2, 0.0, 1.0), trial(3, 0.1, 0.05)]
    sweep = sweep_of(search="optuna", objectives=["asr", "over_refusal"])
    assert best_of(sweep, trials).point["identify.top_k"] == 3
    assert on_front(sweep, trials) == [True, True]


def test_the_front_is_what_no_other_beats():
    chance = np.random.default_rng(0)
    trials = [trial(k, *chance.integers(0, 6, 2) / 6) for k in range(2, 32)]
    trials += [trial(40, 0.0, 0.0, status="stopped")]
    sweep = sweep_of(search="optuna", objectives=["asr", "over_refusal"])
    costs = [(one.last["asr"], one.last["over_refusal"]) for one in trials]

    def beaten(mine):
        others = costs[:-1]
        return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)

    assert on_front(sweep, trials) == [not beaten(mine) for mine in costs[:-1]] + [False]


def test_the_table_has_a_row_per_trial():
    failed = finished(point(7, "union"), status="failed", error="cuda: out of memory", seconds=3.0)
    table = results_table(sweep_of(), [trial(2, 0.25), failed]).to_pylist()
    assert table[0]["identify.top_k"] == 2
    assert table[0]["asr"] == pytest.approx(0.25)
    assert (table[1]["status"], table[1]["asr"], table[1]["error"]) == ("failed", None, "cuda: out of memory")
    assert [row["on_front"] for row in table] == [True, False]
    assert results_table(sweep_of(), []).num_rows == 0


def test_settings_of_the_arm_decide_what_trials_find():
    plain = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a.json"}]}}
    plain |= {"train": {"arm": "dpo"}}
    weak, strong = (_of_training(parse_config(plain | {"arms": {"dpo": {"beta": beta}}}, "c")) for beta in (0.1, 0.5))
    assert weak != strong
