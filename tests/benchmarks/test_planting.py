import numpy as np
import pytest
import torch

from benchmarks.planted.plant import Course, Planted, changed_experts, learn, only, planted
from benchmarks.planted.resetting import put_back, success_by_subset
from benchmarks.planted.scores.effects import conditional
from moe_safety.errors import RunError
from moe_safety.models import inspect_model
from moe_safety.models.demo.shapes import SHAPES, new_model
from moe_safety.models.demo.tokenizer import demo_tokenizer
from moe_safety.models.demo.train import Pupil
from moe_safety.models.experts import use_our_experts

CHOSEN = [(0, 3), (1, 13), (1, 14)]


def untaught(shape):
    tokenizer = demo_tokenizer()
    return Pupil(use_our_experts(new_model(shape, tokenizer, 0)), tokenizer, planted)


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    """Three experts after three steps; whether these help is another matter."""
    pupil = untaught(request.param)
    layout = inspect_model(pupil.model)
    before = {name: value.clone() for name, value in pupil.model.state_dict().items()}
    with only(pupil.model, layout, CHOSEN) as (parameters, keep_size):
        learn(pupil, parameters, Course(rate=3e-3, least=3, most=3, pass_mark=1), seed=0, after_step=keep_size)
    return Planted(pupil.model, pupil.tokenizer, layout, CHOSEN, before, 3, 0, {}, CHOSEN)


def test_the_planted_experts_change_and_nothing_else(model):
    assert changed_experts(model.model, model.layout, model.before) == CHOSEN
    for name, value in model.model.state_dict().items():
        for expert in range(16) if "experts" in name else ():
            torch.testing.assert_close(value[expert].norm(), model.before[name][expert].norm())
    assert all(parameter.requires_grad for parameter in model.model.parameters())


def test_a_change_outside_the_experts_is_an_error(model):
    router = model.model.get_parameter(f"{model.layout.layers[1].router}.weight").data
    kept = router[0, 0].item()
    router[0, 0] += 1
    with pytest.raises(RunError, match="is no expert"):
        changed_experts(model.model, model.layout, model.before)
    router[0, 0] = kept


def test_experts_that_are_put_back_hold_what_they_held(model):
    with put_back(model, CHOSEN[:2]):
        assert changed_experts(model.model, model.layout, model.before) == CHOSEN[2:]
    assert changed_experts(model.model, model.layout, model.before) == CHOSEN
    assert len(success_by_subset(model)) == 8
    assert changed_experts(model.model, model.layout, model.before) == CHOSEN


def test_conditional_effects_show_an_expert_that_another_stands_in_for(model):
    """Expert 5 acts alone; 20 shows only while 5 is held back, 40 never."""
    name = next(name for name in model.layout.layers[0].parameters if name.endswith("down_proj"))
    alone = np.zeros(64)
    alone[[5, 40]] = 3, -1

    def again():
        effects = alone.copy()
        effects[20] = 2 * (model.model.get_parameter(name)[5] == 0).all()
        effects[5] = -9  # Held back already, it keeps what it had.
        return effects

    found = conditional(model, alone, again)
    assert np.argsort(-found)[:2].tolist() == [5, 20]
    assert found[5] == 3
    assert found[40] == -1
    assert changed_experts(model.model, model.layout, model.before) == CHOSEN
