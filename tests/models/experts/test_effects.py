import pytest
import torch

from moe_safety import expert_effects, inspect_model
from moe_safety.models.experts import Trial, first_order_effects, margins, measured_effects, use_our_experts
from moe_safety.models.experts.ablation_strategies import Shared, Whole
from tests.families import FAMILIES, build

GENERATOR = torch.Generator().manual_seed(11)


def tokens(length):
    return torch.randint(3, 90, (length,), generator=GENERATOR).tolist()


TRIALS = [Trial(tokens(6), tokens(3), tokens(4)), Trial(tokens(3), tokens(2), tokens(1))]
COLUMNS = [[getattr(trial, name) for trial in TRIALS] for name in ("prompt", "safe", "unsafe")]


def margin_by_hand(model, trial):
    """Each answer alone, the log-probabilities added up one by one."""
    total = 0.0
    for sign, answer in ((1, trial.safe), (-1, trial.unsafe)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*trial.prompt, *answer]]), use_cache=False).logits[0].double()
        logs = torch.log_softmax(logits, dim=-1)
        total += sign * sum(logs[len(trial.prompt) + n - 1, token] for n, token in enumerate(answer)) / len(answer)
    return float(total)


def zero(model, layer, expert):
    """Takes the expert out by its weights: what it writes, biases included."""
    kept = {}
    for name in layer.parameters:
        if "down" in name:
            parameter = model.get_parameter(name)
            kept[name] = parameter.data[expert].clone()
            parameter.data[expert] = 0
    return kept


@pytest.mark.parametrize("name", FAMILIES)
def test_effects_equal_zeroing_an_expert_by_hand(name):
    """A mix of experts in one forward pass, against a model whose expert's weights are zeroed."""
    model = use_our_experts(build(name))
    layout = inspect_model(model)
    chosen = [(layer.index, expert) for layer in layout.layers for expert in (0, 1, layer.num_experts - 1)]
    effects = expert_effects(model, *COLUMNS, experts=chosen)
    assert effects.dtype == torch.float32
    assert effects.shape == (len(TRIALS), *layout.shape)
    seen = 0
    for row, trial in enumerate(TRIALS):
        base = margin_by_hand(model, trial)
        for index, expert in chosen:
            layer = layout.layers[layout.position(index)]
            kept = zero(model, layer, expert)
            expected = margin_by_hand(model, trial) - base
            for parameter, values in kept.items():
                model.get_parameter(parameter).data[expert] = values
            found = float(effects[row, layout.position(index), expert])
            assert found == pytest.approx(expected, abs=1e-5)
            seen += abs(expected) > 1e-6
    assert seen, "some expert must matter"


@pytest.mark.parametrize("name", FAMILIES)
def test_any_expert_may_be_held_back_alone(name):
    """Also one that gets no token."""
    model = use_our_experts(build(name))
    first = inspect_model(model).layers[0]
    experts = [(first.index, expert) for expert in range(first.num_experts)]
    given = [[5, 6, 9]], [[7, 8]], [[9, 10]]
    together = expert_effects(model, *given, experts=experts)
    for place, one in enumerate(experts[:4]):
        alone = expert_effects(model, *given, experts=[one])
        torch.testing.assert_close(alone[0, 0, place], together[0, 0, place], rtol=1e-4, atol=1e-4)


def test_what_is_not_measured_is_not_a_number():
    model = use_our_experts(build("olmoe"))
    effects = expert_effects(model, *COLUMNS, experts=[(1, 2)])
    assert not effects[:, inspect_model(model).position(1), 2].isnan().any()
    assert effects.isnan().sum() == effects.numel() - len(TRIALS)


@pytest.mark.parametrize("way", [Shared(joined=True), Shared(joined=False), Whole()])
def test_an_expert_without_tokens_has_exactly_no_effect(way):
    model = use_our_experts(build("olmoe"))
    layout = inspect_model(model)
    layer = layout.layers[0]
    torch.nn.init.zeros_(model.get_submodule(layer.router).weight)
    for trial in TRIALS:
        effects = measured_effects(model, trial, layout.experts(), layout, way)[0]
        assert (effects == 0).sum() == layer.num_experts - layer.top_k


@pytest.mark.parametrize("way", [Shared(joined=True), Shared(joined=False), Whole()])
def test_groups_of_any_size_and_order_give_the_same(way):
    model = use_our_experts(build("olmoe"))
    layout = inspect_model(model)
    whole = measured_effects(model, TRIALS[0], layout.experts(), layout, way)
    single = measured_effects(model, TRIALS[0], layout.experts()[::-1], layout, way, max_tokens=1)
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "deepseek_v3", "gpt_oss", "granitemoe", "llama4_text"])
def test_first_order_is_the_slope_of_the_margin_in_the_expert_s_scale(name):
    """Against a difference quotient, in float64."""
    from moe_safety.models.experts.reweigh import scaled

    model = use_our_experts(build(name).double())
    layout = inspect_model(model)
    foreseen = first_order_effects(model, TRIALS, layout)
    assert foreseen.shape == (len(TRIALS), *layout.shape)
    step = 1e-2
    for row, trial in enumerate(TRIALS):
        for expert in range(3):

            def margin_at(factor, trial=trial, expert=expert):
                scale = torch.ones(2, *layout.shape, dtype=torch.float64)
                scale[:, 0, expert] = factor
                with torch.no_grad(), scaled(model, layout, scale):
                    return float(margins(model, [trial])[0])

            slope = (margin_at(1 + step) - margin_at(1 - step)) / (2 * step)
            assert float(foreseen[row, 0, expert]) == pytest.approx(-slope, rel=5e-3, abs=1e-5)


def test_the_model_is_left_as_it_was():
    model = use_our_experts(build("olmoe")).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expert_effects(model, *COLUMNS)
    first_order_effects(model, TRIALS, inspect_model(model))
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())
