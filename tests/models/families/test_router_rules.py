"""Each rule against the routers it stands for, bit by bit."""

import pytest
import torch

from moe_safety.errors import InputError
from moe_safety.models.families import FAMILIES as DECLARED
from moe_safety.models.families import RouterCall
from moe_safety.models.routers import preferring, routers, rule_of
from tests.families import FAMILIES, build
from tests.models.routers.watched import IDS, Forced, answers, lively

RULES = {family.name for family in DECLARED if family.rule}
NAMES = [name for name in FAMILIES if name in RULES]
GROUPS = {"topk_method": "group_limited_greedy", "num_group": 4, "topk_group": 2}
VARIANTS = [(name, {}) for name in NAMES] + [
    ("olmoe", {"norm_topk_prob": True}),
    ("qwen2_moe", {"norm_topk_prob": True}),
    ("deepseek_v2", GROUPS | {"routed_scaling_factor": 3.0}),
    ("deepseek_v3", {"norm_topk_prob": False, "routed_scaling_factor": 2.5, "num_group": 4, "topk_group": 2}),
]


def calls(model, layout):
    with answers(model, layout) as seen, torch.no_grad():
        model(input_ids=IDS, use_cache=False)
    for (call,) in seen:
        router, args, (logits, weights, index) = call
        yield RouterCall(router, args[1] if len(args) > 1 else None, logits, weights, index), args


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_the_rule_chooses_and_weighs_as_the_router_does(name, settings):
    model, layout = lively(name, **settings)
    rule = rule_of(model)
    for layer, (call, _) in zip(layout.layers, calls(model, layout), strict=True):
        order = rule.order(call)
        assert torch.equal(order[:, : layer.top_k].sort().values, call.index.sort().values)
        assert torch.equal(order.sort().values, torch.arange(layer.num_experts).expand(len(order), -1))
        assert torch.equal(rule.weights(call, call.index), call.weights)


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "mistral4", "gpt_oss", "granitemoe", "deepseek_v3", "lfm2_moe"])
def test_weights_are_the_router_s_in_bfloat16_too(name):
    model, layout = lively(name, dtype=torch.bfloat16)
    for call, _ in calls(model, layout):
        ours = rule_of(model).weights(call, call.index)
        assert ours.dtype == call.weights.dtype
        assert torch.equal(ours, call.weights)


@pytest.mark.parametrize("name", NAMES)
def test_any_choice_is_weighed_as_the_router_s_own_code_would(name):
    """Weights and the gradient of the router's weights, for experts that it would never have chosen."""
    model, layout = lively(name)
    rule = rule_of(model)
    generator = torch.Generator().manual_seed(1)
    for layer, (call, args) in zip(layout.layers, calls(model, layout), strict=True):
        index = torch.rand(call.logits.shape, generator=generator).argsort(dim=1)[:, : layer.top_k]
        learned = [parameter for parameter in call.router.parameters() if parameter.requires_grad]
        pull = torch.randn(index.shape, generator=generator)
        with Forced(index, layer.num_experts):
            logits, expected, chosen = call.router(*args)
        assert torch.equal(chosen, index)
        ours = rule.weights(RouterCall(call.router, call.bias, logits, expected, call.index), index)
        assert torch.equal(ours, expected)
        assert not torch.equal(ours, call.weights)
        grads = [torch.autograd.grad((w * pull).sum(), learned, retain_graph=True) for w in (ours, expected)]
        assert any(grad.any() for grad in grads[0])
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_a_distribution_that_agrees_with_the_weights(name):
    model, layout = lively(name)
    rule = rule_of(model)
    for call, _ in calls(model, layout):
        found = rule.probabilities(call)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found)))
        assert (found >= 0).all()
        # What each rule does to the chosen experts' probabilities keeps their proportions.
        scale = call.router.per_expert_scale[call.index] if name == "gemma4_text" else 1
        chosen, weights = found.gather(1, call.index), call.weights / scale
        proportions = (each / each.sum(dim=1, keepdim=True) for each in (chosen, weights))
        torch.testing.assert_close(*proportions, rtol=1e-4, atol=1e-6)


def test_probabilities_of_softmax_routers_are_the_softmax_of_their_logits():
    for name in ("olmoe", "gpt_oss", "deepseek_v2"):
        model, layout = lively(name)
        for call, _ in calls(model, layout):
            assert torch.equal(rule_of(model).probabilities(call), call.logits.softmax(dim=1))


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - RULES))
def test_a_family_without_a_rule_is_refused(name):
    model, layout = lively(name)
    for use in (lambda: rule_of(model), lambda: routers(model, layout)):
        with pytest.raises(InputError, match="is not known here") as refused:
            use()
        assert "\n" not in str(refused.value)
    mask = torch.ones(layout.shape, dtype=torch.bool)
    with pytest.raises(InputError, match="is not known here"), preferring(model, layout, mask):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_a_router_that_answers_the_other_way_round_is_refused():
    """As Granite's does in older releases of transformers."""
    model, layout = lively("granitemoe")
    router = model.get_submodule(layout.layers[0].router)
    router.register_forward_hook(lambda _module, _args, answer: answer[::-1])
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    with pytest.raises(InputError, match="update transformers"), preferring(model, layout, mask):
        model(input_ids=IDS)


def test_routers_are_what_a_router_phase_may_train():
    wanted = {
        "olmoe": ["weight"],
        "gpt_oss": ["weight", "bias"],
        "ernie4_5_moe": ["weight"],
        "laguna": ["weight"],
        "afmoe": ["gate.weight"],
        "deepseek_v3": ["weight"],
    }
    for name, parts in wanted.items():
        model, layout = lively(name)
        expected = [f"{layer.router}.{part}" for layer in layout.layers for part in parts]
        assert routers(model, layout) == expected
        assert all(model.get_parameter(path).requires_grad for path in expected)


def test_the_families_that_must_be_there_are():
    must = {"olmoe", "mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "gpt_oss"}
    assert must <= set(NAMES)
    assert set(FAMILIES) >= RULES, "every rule is proved here"
    assert build("olmoe").config.norm_topk_prob is False
