"""The measures of selections, against definitions written out by hand."""

import numpy as np
import pytest

from moe_safety.config import IdentifyConfig
from moe_safety.effects.table import effects_table
from moe_safety.errors import InputError
from moe_safety.identify import Experts, jaccard
from moe_safety.identify.inputs import part_scores
from moe_safety.models import inspect_model
from moe_safety.scores import SCORES
from moe_safety.tune.selection.ground import Ground
from moe_safety.tune.selection.measures import Prompts, auroc, held_out_auroc
from tests.families import build


def test_auroc_counts_pairs():
    chance = np.random.default_rng(0)
    scores, positive = chance.integers(0, 6, 40).astype(float), chance.random(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert auroc(np.zeros(40), positive) == 0.5


def test_jaccard():
    assert jaccard({1, 2, 3}, {3, 4}) == 0.25
    assert jaccard({1}, set()) == 0.0
    assert jaccard(set(), set()) is None


def ground_of(*views):
    """Four experts, one score of each view, and prompts that expert 0 tells apart."""
    chance = np.random.default_rng(4)
    scores = {"risk_diff": np.array(views)}
    return Ground(Experts.of_shape(1, 4), scores, drawn(chance, 90, 0.5), drawn(chance, 60, 0.5))


def test_halves_that_select_nobody_bear_nothing_out():
    settings = IdentifyConfig(method="routing", threshold=0.2, top_k=2)
    whole = [0.3, 0.1, 0.0, 0.0]
    assert ground_of(whole, [0.1, 0, 0, 0], [0.1, 0, 0, 0]).measure(settings, 0)["stability"] == 0.0
    assert ground_of(whole, [0.3, 0, 0, 0], [0.3, 0, 0, 0]).measure(settings, 0)["stability"] == 1.0
    assert ground_of(whole, [0.3, 0.4, 0, 0], [0.3, 0, 0, 0]).measure(settings, 0)["stability"] == 0.5
    assert ground_of(whole, whole, whole).measure(settings, 0)["experts"] == 1
    with pytest.raises(InputError, match="no expert is selected"):
        ground_of([0.0] * 4, whole, whole).measure(settings, 0)


def test_effects_of_one_half_alone_are_no_ground_for_stability():
    """Attacks that were measured may all stand in every other batch."""
    layout = inspect_model(build("olmoe"))
    effects = np.ones((3, layout.n_moe_layers, layout.max_experts))
    table = effects_table(layout, ["a", "b", "c"], ["unsafe", "unsafe", "control"], [0.0] * 3, effects)
    effect, experts = SCORES.get("effect"), Experts.of_layout(layout)
    assert (part_scores(effect, [table, table], experts) == 0).all()
    for nobody in (table.slice(2), table.slice(3)):
        assert np.isnan(part_scores(effect, [nobody, nobody], experts)).all(), "no attack, so nothing to learn"
    whole, nothing = [0.3, 0.1, 0.0, 0.0], [np.nan] * 4
    with pytest.raises(InputError, match=r"identify\.score: nothing in a half of the goals tells risk_diff"):
        ground_of(whole, whole, nothing).measure(IdentifyConfig(method="routing", threshold=0.0), 0)


def drawn(chance, n, useful):
    """Expert 0 alone is active on attacks; expert 1 never is."""
    attack = np.arange(n) % 3 == 0
    rates = chance.random((n, 4)).astype("f4") * 0.2
    rates[:, 0] += useful * attack
    rates[:, 1] = 0
    return Prompts(rates, attack)


def test_only_experts_that_an_attack_uses_tell_it_apart():
    chance = np.random.default_rng(1)
    training, held_out = drawn(chance, 90, 0.5), drawn(chance, 60, 0.5)
    assert held_out_auroc(training, held_out, np.array([0])) == 1.0
    assert held_out_auroc(training, held_out, np.array([0, 1, 2])) == 1.0
    assert held_out_auroc(training, held_out, np.array([1])) == 0.5, "an expert that never varies tells nothing"
    assert abs(held_out_auroc(training, held_out, np.array([2, 3])) - 0.5) < 0.2


def test_what_is_held_out_is_not_fitted():
    """More experts than prompts fit any training prompts; held-out ones they do not tell apart."""
    chance = np.random.default_rng(2)
    training, held_out = (Prompts(chance.random((20, 60)).astype("f4"), np.arange(20) % 2 == 0) for _ in range(2))
    everyone = np.arange(60)
    assert held_out_auroc(training, training, everyone) > 0.95
    assert held_out_auroc(training, held_out, everyone) < 0.8


def test_the_direction_is_learnt_in_training():
    """Experts that attacks use less are as good a sign, and what held-out prompts say does not turn it round."""
    chance = np.random.default_rng(3)
    training, held_out = drawn(chance, 90, 0.5), drawn(chance, 60, 0.5)
    fewer = Prompts(-training.rates, training.attack), Prompts(-held_out.rates, held_out.attack)
    assert held_out_auroc(*fewer, np.array([0])) == 1.0
    assert held_out_auroc(fewer[0], held_out, np.array([0])) == 0.0
