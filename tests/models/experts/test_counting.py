from collections import Counter
from functools import partial

import pytest
import torch

from moe_safety import count_routing, inspect_model
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts import run_counting, use_our_experts
from moe_safety.models.families import family_of
from tests.families import FAMILIES, build

LENGTHS = (9, 4, 6)


def prompts():
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 90, (length,), generator=generator) for length in LENGTHS]


def padded(side):
    width = max(LENGTHS)
    ids, mask = torch.full((3, width), 1), torch.zeros(3, width, dtype=torch.long)
    for row, prompt in enumerate(prompts()):
        place = slice(0, len(prompt)) if side == "right" else slice(width - len(prompt), width)
        ids[row, place], mask[row, place] = prompt, 1
    return ids, mask


def one_at_a_time(model):
    """The reference: each prompt alone through the stock model, and what its experts were called with, told by hand."""
    layout, family = inspect_model(model), family_of(decoder_of(model).config)
    counts = torch.zeros(len(LENGTHS), *layout.shape, dtype=torch.int64)
    for row, prompt in enumerate(prompts()):
        seen = {}

        def note(module, args, kwargs, layer, seen=seen):
            seen[layer.index] = family.routing_of(layer.num_experts, args, kwargs)[0].tolist()

        handles = [
            model.get_submodule(layer.experts).register_forward_pre_hook(partial(note, layer=layer), with_kwargs=True)
            for layer in layout.layers
        ]
        with torch.no_grad():
            model(input_ids=prompt[None], use_cache=False)
        for handle in handles:
            handle.remove()
        for position, layer in enumerate(layout.layers):
            for expert, count in Counter(e for token in seen[layer.index] for e in token).items():
                if expert < layer.num_experts:
                    counts[row, position, expert] = count
    return counts


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_equal_a_run_of_each_prompt_alone(name):
    model = use_our_experts(build(name))
    ids, mask = padded("right")
    counts = count_routing(model, ids, mask, torch.ones_like(mask))
    assert counts.dtype == torch.int64
    assert torch.equal(counts, one_at_a_time(model))
    assert not model.training


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss", "glm4_moe", "phimoe"])
def test_padding_on_the_left_changes_nothing(name):
    model = use_our_experts(build(name))
    left, right = (count_routing(model, ids, mask, mask) for ids, mask in (padded("left"), padded("right")))
    assert torch.equal(left, right)


def test_only_counted_tokens_count_and_only_up_to_the_last_router():
    model = use_our_experts(build("olmoe"))
    layout = inspect_model(model)
    ids, mask = padded("right")
    counted = mask.bool() & (torch.arange(9) >= 3)
    head_ran = []
    model.lm_head.register_forward_hook(lambda *_: head_ran.append(True))
    last = model.get_submodule(layout.layers[-1].experts)
    last.register_forward_hook(lambda *_: head_ran.append(True))
    counts = count_routing(model, ids, mask, counted)
    assert not head_ran
    assert counts.sum(dim=2).tolist() == [[n * layout.layers[0].top_k] * layout.n_moe_layers for n in (6, 1, 3)]
    whole = count_routing(model, ids, mask, mask)
    first = count_routing(model, ids, mask, mask.bool() & ~counted)
    assert torch.equal(first + counts, whole)


def test_a_router_that_sends_every_token_to_one_expert():
    model = use_our_experts(build("olmoe"))
    layout = inspect_model(model)
    for layer in layout.layers:
        torch.nn.init.zeros_(model.get_submodule(layer.router).weight)
    ids, mask = padded("right")
    counts = count_routing(model, ids, mask, mask)
    top_k = layout.layers[0].top_k
    for row, length in enumerate(LENGTHS):
        assert sorted(counts[row, 0].tolist(), reverse=True)[:top_k] == [length] * top_k
        assert counts[row, 0].sum() == length * top_k


def test_weights_are_the_routers_and_do_not_depend_on_the_order_of_summing():
    model = use_our_experts(build("mixtral"))
    layout = inspect_model(model)
    ids, mask = padded("right")
    counts = run_counting(model, ids, mask, mask.bool())
    # Mixtral's weights of one token sum to one.
    expected = torch.tensor(LENGTHS, dtype=torch.float32)[:, None].expand(-1, layout.n_moe_layers)
    torch.testing.assert_close(counts.weights().sum(dim=2), expected)
    assert ((counts.weights() > 0) <= (counts.counts() > 0)).all()
    reverse = run_counting(model, ids.flip(0), mask.flip(0), mask.flip(0).bool())
    torch.testing.assert_close(reverse.weights().flip(0), counts.weights(), rtol=1e-6, atol=0)


def test_the_model_is_left_as_it_was():
    model = use_our_experts(build("olmoe")).train()
    before = model(input_ids=prompts()[0][None]).logits
    ids, mask = padded("right")
    count_routing(model, ids, mask, mask)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(input_ids=prompts()[0][None]).logits, before)
