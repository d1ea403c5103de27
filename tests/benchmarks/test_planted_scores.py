"""The scores of effects that the benchmark takes from `identify`."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.planted.probes import Probes
from benchmarks.planted.scores import FAMILIES
from benchmarks.planted.scores.offered import label_of, offered, on_attacks, passes_of
from moe_safety import expert_effects
from moe_safety.effects.conditional import conditional
from moe_safety.effects.table import by_prompt
from moe_safety.models import inspect_model
from moe_safety.models.experts.effects import Trial
from moe_safety.scores import SCORES
from tests.families import build


def test_they_are_what_identify_computes():
    model = build("olmoe")
    layout = inspect_model(model)
    prompts = {"unsafe": [[5, 6, 7], [8, 9]], "control": [[7, 5], [9, 6, 8]]}
    probes = Probes({label: [Trial(one, [11, 12], [13, 14, 15]) for one in found] for label, found in prompts.items()})
    passes = passes_of(SimpleNamespace(model=model, layout=layout), probes, opening=2, prompts=2)
    sides = []
    for found in prompts.values():
        by_hand = expert_effects(model, found, [[11, 12]] * 2, [[13, 14]] * 2)
        sides.append(by_hand.double().mean(dim=0).flatten().numpy())
    np.testing.assert_allclose(on_attacks(passes[0]), sides[0], atol=1e-9)
    np.testing.assert_allclose(offered(SCORES.get("effect"), passes), sides[0] - sides[1], atol=1e-9)
    held = [set(np.flatnonzero(np.isnan(by_prompt(table)).all(axis=0))) for table in passes]
    assert held[0] == held[1] == set()
    assert len(held[2]) <= len(held[3])
    assert held[2] <= set(np.argsort(-offered(SCORES.get("effect"), passes), kind="stable")[: len(held[2])])
    found = offered(SCORES.get("effect_conditional"), passes)
    np.testing.assert_array_equal(found, conditional([passes[0], *passes[2:]]))
    assert found == pytest.approx(offered(SCORES.get("effect"), passes), abs=1)


def test_every_score_of_identify_is_in_the_benchmark():
    what = {name: text for scores in FAMILIES.values() for name, text in scores.items()}
    assert all(what[label_of(score)] for score in SCORES.own())
