"""Contexts that change or read the choice of experts, in every family with a rule."""

from contextlib import ExitStack

import pytest
import torch

from moe_safety.errors import InputError
from moe_safety.models.experts import checkpointed, stopping_after_routing
from moe_safety.models.families import FAMILIES as DECLARED
from moe_safety.models.families import RouterCall
from moe_safety.models.routers import (
    avoiding,
    divergence,
    mean_distribution,
    preferring,
    probabilities,
    recording,
    replaying,
    routers,
    rule_of,
)
from tests.families import FAMILIES
from tests.models.routers.watched import IDS, answers, lively

RULES = {family.name for family in DECLARED if family.rule}
NAMES = [name for name in FAMILIES if name in RULES]
FEW = ["olmoe", "mixtral", "gpt_oss", "deepseek_v2", "deepseek_v3", "ernie4_5_moe"]


def before_and_after(model, layout, context, ids=IDS):
    """For each layer the call of its router, answered by itself, and what the context made of it."""
    with torch.no_grad(), answers(model, layout) as own, context, answers(model, layout) as changed:
        model(input_ids=ids, use_cache=False)
    for ((router, args, (logits, weights, index)),), ((_, _, (_, new_weights, new_index)),) in zip(
        own, changed, strict=True
    ):
        call = RouterCall(router, args[1] if len(args) > 1 else None, logits, weights, index)
        yield call, new_index, new_weights


def holds(index, expert):
    """Which tokens are routed to the expert."""
    return (index == expert).any(dim=1)


def as_sets(index):
    return [set(row) for row in index.tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_preferred_experts_come_first(name):
    model, layout = lively(name)
    rule = rule_of(model)
    enough, one = [1, 4, 6], [5]
    for row, preferred in enumerate((enough, one, [])):
        mask = torch.zeros(layout.shape, dtype=torch.bool)
        mask[:, preferred] = True
        differs = 0
        for call, index, weights in before_and_after(model, layout, preferring(model, layout, mask)):
            assert torch.equal(weights, rule.weights(call, index))
            differs += int((index != call.index).sum())
            if preferred == enough:
                assert all(chosen <= set(enough) for chosen in as_sets(index))
            elif preferred == one:
                assert holds(index, 5).all()
                # The other place goes to the best of the rest, which the router had chosen too.
                rest = [
                    set(new) - {5} <= set(old) for new, old in zip(as_sets(index), as_sets(call.index), strict=True)
                ]
                assert all(rest)
            else:
                assert torch.equal(index, call.index)
                assert torch.equal(weights, call.weights)
        assert bool(differs) is (row < 2)


@pytest.mark.parametrize("name", NAMES)
def test_avoided_experts_are_replaced_and_nothing_else(name):
    model, layout = lively(name)
    rule = rule_of(model)
    avoided = [0, 3]
    pairs = [(layer.index, expert) for layer in layout.layers for expert in avoided]
    kept_rows = 0
    for call, index, weights in before_and_after(model, layout, avoiding(model, layout, pairs)):
        assert not any(holds(index, expert).any() for expert in avoided)
        touched = holds(call.index, 0) | holds(call.index, 3)
        kept_rows += int((~touched).sum())
        assert touched.any()
        assert torch.equal(index[~touched], call.index[~touched])
        assert torch.equal(weights[~touched], call.weights[~touched])
        order = rule.order(call)
        for token, row in enumerate(order.tolist()):
            expected = [expert for expert in row if expert not in avoided][: index.shape[1]]
            assert set(index[token].tolist()) == set(expected)
    assert kept_rows


@pytest.mark.parametrize("name", FEW)
def test_where_fewer_than_top_k_are_left_the_best_of_the_avoided_fill_up(name):
    model, layout = lively(name)
    first, second, *_ = layout.layers
    all_but_two = [(first.index, expert) for expert in range(first.num_experts) if expert != 2]
    everything = [(second.index, expert) for expert in range(second.num_experts)]
    made = list(before_and_after(model, layout, avoiding(model, layout, all_but_two + everything)))
    call, index, _ = made[0]
    assert holds(index, 2).all()
    assert all(new - {2} <= old for new, old in zip(as_sets(index), as_sets(call.index), strict=True))
    call, index, weights = made[1]
    assert torch.equal(index, call.index)
    assert torch.equal(weights, call.weights)


def test_a_tie_does_not_move_a_token_that_nothing_asks_to_move():
    """In bfloat16 logits are often equal, and then top-k takes whichever it meets first."""
    model, layout = lively("gpt_oss", dtype=torch.bfloat16)
    for layer in layout.layers:
        torch.nn.init.zeros_(model.get_submodule(layer.router).weight)
        torch.nn.init.zeros_(model.get_submodule(layer.router).bias)
    for call, index, _ in before_and_after(model, layout, avoiding(model, layout, [])):
        assert torch.equal(index, call.index)
    with torch.no_grad(), recording(model, layout) as own:
        model(input_ids=IDS)
    taken = set(own.layers[0].flatten().tolist())
    free = next(expert for expert in range(8) if expert not in taken)
    for call, index, _ in before_and_after(model, layout, avoiding(model, layout, [(layout.layers[0].index, free)])):
        assert torch.equal(index, call.index)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_choices_are_replayed(name):
    model, layout = lively(name)
    with torch.no_grad(), recording(model, layout) as seen:
        logits = model(input_ids=IDS, use_cache=False).logits
    choices = seen.stack()
    assert choices.shape == (layout.n_moe_layers, IDS.numel(), layout.layers[0].top_k)
    with torch.no_grad(), replaying(model, layout, choices):
        assert torch.equal(model(input_ids=IDS, use_cache=False).logits, logits)
    for path in routers(model, layout):
        parameter = model.get_parameter(path)
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8)) * parameter.std() * 2
    rule, drifted = rule_of(model), 0
    made = before_and_after(model, layout, replaying(model, layout, choices))
    for recorded, (call, index, weights) in zip(choices, made, strict=True):
        assert torch.equal(index, recorded)
        assert torch.equal(weights, rule.weights(call, recorded))
        drifted += int((call.index != recorded).sum())
    assert drifted


def test_choices_of_other_tokens_are_not_replayed():
    model, layout = lively("olmoe")
    with recording(model, layout) as seen:
        model(input_ids=IDS)
    with replaying(model, layout, seen.layers), pytest.raises(ValueError, match="replayed"):
        model(input_ids=IDS[:1])


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_are_seen_and_teach_the_routers(name):
    model, layout = lively(name)
    with probabilities(model, layout) as seen:
        model(input_ids=IDS, use_cache=False)
    assert [tuple(layer.shape) for layer in seen.layers] == [(IDS.numel(), 8)] * layout.n_moe_layers
    sum(layer[:, 0].mean() for layer in seen.layers).backward()
    for layer in layout.layers:
        names = [path for path in routers(model, layout) if path.startswith(layer.router)]
        assert any(model.get_parameter(path).grad.any() for path in names if model.get_parameter(path).grad is not None)


def test_probabilities_can_stop_at_the_last_router():
    model, layout = lively("olmoe")
    with torch.no_grad(), probabilities(model, layout) as whole:
        model(input_ids=IDS)
    with torch.no_grad(), probabilities(model, layout) as seen:
        for _ in range(2):
            with stopping_after_routing(model, layout):
                model(input_ids=IDS)
    assert torch.equal(seen.stack(), whole.stack())


def test_contexts_stand_inside_each_other_and_masks_change_between_steps():
    model, layout = lively("deepseek_v3")
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    mask[:, [1, 2, 7]] = True
    with torch.no_grad(), ExitStack() as stack:
        own = stack.enter_context(recording(model, layout))
        preference = stack.enter_context(preferring(model, layout, mask))
        chosen = stack.enter_context(recording(model, layout))
        likely = stack.enter_context(probabilities(model, layout))
        model(input_ids=IDS)
        assert set(chosen.stack().unique().tolist()) == {1, 2, 7}
        assert len(own.stack().unique()) > 3
        assert len(likely.layers) == layout.n_moe_layers
        preference.set(torch.zeros_like(mask))
        model(input_ids=IDS)
        assert torch.equal(chosen.stack(), own.stack())


@pytest.mark.parametrize("name", [*FEW, "gemma4_text"])
def test_an_exception_leaves_the_model_as_it_was(name):
    model, layout = lively(name)
    expected = model(input_ids=IDS).logits
    model.train()

    def state():
        return [
            (module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()
        ]

    before = state()
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    mask[:, :3] = True
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(RuntimeError, match="in the middle"))
        for context in (preferring(model, layout, mask), probabilities(model, layout), recording(model, layout)):
            stack.enter_context(context)
        assert state() != before
        model(input_ids=IDS)
        raise RuntimeError("in the middle")
    assert state() == before
    assert torch.equal(model.eval()(input_ids=IDS).logits, expected)


@pytest.mark.parametrize("name", ["mixtral", "minimax_m2"])
def test_routers_draw_no_noise_while_training(name):
    model, layout = lively(name)
    blocks = [model.get_submodule(layer.name) for layer in layout.layers]
    for block in blocks:
        block.jitter_noise = 0.5
    with torch.no_grad(), recording(model, layout) as seen:
        model(input_ids=IDS)
        quiet = seen.stack()
    model.train()
    with torch.no_grad(), recording(model, layout) as seen:
        model(input_ids=IDS)
    assert torch.equal(seen.stack(), quiet)
    with torch.no_grad(), answers(model, layout) as noisy:
        model(input_ids=IDS)
    assert not torch.equal(torch.stack([call[0][2][2] for call in noisy]), quiet)


def losses(model, layout, seen, kind):
    logits = model(input_ids=IDS, use_cache=False).logits
    if kind != "probabilities":
        return logits.float().log_softmax(dim=-1)[..., 7].mean()
    now = mean_distribution(seen.layers, IDS > 20)
    return divergence(torch.full_like(now, 1 / now.shape[1]), now, "symmetric").sum()


@pytest.mark.parametrize("kind", ["preferring", "replaying", "probabilities"])
@pytest.mark.parametrize("name", FEW)
def test_checkpointing_gives_the_same_gradients(name, kind):
    model, layout = lively(name)
    mask = torch.zeros(layout.shape, dtype=torch.bool)
    mask[:, [1, 4, 6]] = True
    choices = torch.rand(layout.n_moe_layers, IDS.numel(), 8, generator=torch.Generator().manual_seed(2))
    contexts = {
        "preferring": lambda: preferring(model, layout, mask),
        "replaying": lambda: replaying(model, layout, choices.argsort(dim=2)[..., : layout.layers[0].top_k]),
        "probabilities": lambda: probabilities(model, layout),
    }
    found = []
    for checkpointing in (False, True):
        model.zero_grad()
        with ExitStack() as stack:
            seen = stack.enter_context(contexts[kind]())
            if checkpointing:
                stack.enter_context(checkpointed(model))
            loss = losses(model, layout, seen, kind)
            left = list(getattr(seen, "layers", []))
            loss.backward()
            if kind == "probabilities":
                assert len(left) == layout.n_moe_layers
                assert all(a is b for a, b in zip(seen.layers, left, strict=True)), "seen again in the backward pass"
        found.append({path: p.grad.clone() for path, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert any(found[0][path].any() for path in routers(model, layout))
    for path, grad in found[0].items():
        torch.testing.assert_close(found[1][path], grad, rtol=1e-5, atol=1e-9, msg=path)


def test_a_decoder_layer_that_holds_its_router_itself_is_still_checkpointed():
    model, layout = lively("gemma4_text")
    with checkpointed(model), recording(model, layout), answers(model, layout) as seen:
        model(input_ids=IDS, use_cache=False).logits.sum().backward()
    assert [len(calls) for calls in seen] == [2] * layout.n_moe_layers


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v3", "gpt_oss"])
def test_generation_avoids_too(name):
    model, layout = lively(name)
    pairs = [(layer.index, expert) for layer in layout.layers for expert in (0, 3)]
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        before = model.generate(IDS, **options)
        with avoiding(model, layout, pairs), answers(model, layout) as seen:
            steered = model.generate(IDS, **options)
            alone = IDS
            for _ in range(6):
                following = model(input_ids=alone, use_cache=False).logits[:, -1].argmax(dim=1)
                alone = torch.cat([alone, following[:, None]], dim=1)
        assert len(seen[0]) == 12
        assert not any(holds(call[2][2], expert).any() for layer in seen for call in layer for expert in (0, 3))
        assert torch.equal(steered, alone)
        assert not torch.equal(steered, before)
        assert torch.equal(model.generate(IDS, **options), before), "only while the context lasts"


def test_what_does_not_fit_the_model_is_refused():
    model, layout = lively("qwen3_moe")
    dense = layout.dense_layers[0]
    for pair, words in (((dense, 0), "no experts"), ((0, 8), "no expert 8"), ((0, -1), "no expert -1")):
        with pytest.raises(InputError, match=words), avoiding(model, layout, [pair]):
            pass
    for mask in (torch.ones(1, 8, dtype=torch.bool), torch.ones(layout.shape)):
        with pytest.raises(InputError, match="a mask of bool"), preferring(model, layout, mask):
            pass
    assert not any(module._forward_hooks for module in model.modules())
