from contextlib import nullcontext

import pytest
import torch

from moe_safety import inspect_model, selective_experts
from moe_safety.errors import InputError
from moe_safety.models.experts import checkpointed, use_our_experts
from moe_safety.models.text.answer_losses import Rows, answer_losses, make_rows
from tests.families import FAMILIES, build
from tests.models.padding import padded

GENERATOR = torch.Generator().manual_seed(5)
PROMPTS = [torch.randint(3, 90, (n,), generator=GENERATOR).tolist() for n in (6, 3, 4)]
ANSWERS = [torch.randint(3, 90, (n,), generator=GENERATOR).tolist() for n in (2, 5, 3)]
ROWS = make_rows(PROMPTS, ANSWERS)
FLOAT32_ONLY = {"inkling2_text"}
"""Its own code mixes types in float64."""


def precise(name):
    return use_our_experts(build(name) if name in FLOAT32_ONLY else build(name).double()).eval()


def some_experts(layout):
    """The last layers' alone, so that the backward pass has layers to stop before."""
    return [(layer.index, expert) for layer in layout.layers[-2:] for expert in (1, layer.num_experts - 1)]


def gradients(model, selective):
    answer_losses(model, ROWS)[0].mean().backward()
    return {name: own.grad for name, own in selective.named_parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_and_outputs_equal_those_of_the_whole_model(name):
    model = precise(name)
    layout = inspect_model(model)
    experts = some_experts(layout)
    losses, _ = answer_losses(model, ROWS)
    losses.mean().backward()
    whole = {
        parameter: model.get_parameter(parameter).grad for layer in layout.layers for parameter in layer.parameters
    }
    model.zero_grad()
    names, learning = list(model.state_dict()), [parameter.requires_grad for parameter in model.parameters()]
    with selective_experts(model, experts) as selective:
        torch.testing.assert_close(answer_losses(model, ROWS)[0], losses, rtol=0, atol=0)
        found = gradients(model, selective)
        trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        assert trainable == {id(parameter) for parameter in selective.parameters()}
    tolerance = 3e-5 if name in FLOAT32_ONLY else 1e-6
    for parameter, grad in found.items():
        rows = [expert for layer, expert in experts if parameter in layout.layers[layout.position(layer)].parameters]
        expected = torch.zeros_like(grad) if whole[parameter] is None else whole[parameter][rows]
        torch.testing.assert_close(grad, expected, rtol=tolerance, atol=1e-9)
    assert any((grad != 0).any() for grad in found.values())
    assert list(model.state_dict()) == names
    assert [parameter.requires_grad for parameter in model.parameters()] == learning


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "llama4_text", "deepseek_v3"])
def test_only_active_experts_have_a_gradient(name):
    model = precise(name)
    experts = some_experts(inspect_model(model))
    with selective_experts(model, experts) as selective:
        everyone = gradients(model, selective)
        for own in selective.parameters():
            own.grad = None
        selective.set_active(experts[:1])
        some = gradients(model, selective)
        for parameter, grad in some.items():
            first = torch.zeros(len(grad), dtype=bool)
            first[0] = parameter.startswith(inspect_model(model).layers[-2].experts)
            assert (grad[~first] == 0).all()
            torch.testing.assert_close(grad[first], everyone[parameter][first], rtol=1e-9, atol=1e-14)
        with pytest.raises(InputError, match="not among those that train"):
            selective.set_active([(experts[0][0], 0)])


def rows_padded(side):
    """With two tokens' room on one side."""
    ids, labels, mask = padded(PROMPTS, ANSWERS, side, rubbish=77, room=2)
    return Rows(ids, labels, mask if side == "left" else None)


@pytest.mark.parametrize(
    "name",
    [
        "olmoe",
        "mixtral",
        "qwen2_moe",
        "qwen3_moe",
        "qwen3_next",
        "deepseek_v2",
        "deepseek_v3",
        "gpt_oss",
        "llama4_text",
        "longcat_flash",
        "gemma4_text",
        "granitemoehybrid",
    ],
)
def test_padding_on_either_side_gives_the_same_losses_and_gradients(name):
    model = precise(name)
    with selective_experts(model, some_experts(inspect_model(model))) as selective:
        found = {}
        for side, rows in {"none": None, "left": rows_padded("left"), "right": rows_padded("right")}.items():
            for own in selective.parameters():
                own.grad = None
            alone = [make_rows([prompt], [answer]) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
            losses = torch.cat([answer_losses(model, each)[0] for each in ([rows] if rows else alone)])
            losses.mean().backward()
            found[side] = [losses.detach(), *(own.grad for own in selective.parameters())]
    assert any((grad != 0).any() for grad in found["none"][1:])
    for side in ("left", "right"):
        for one, other in zip(found[side], found["none"], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["qwen3_moe", "phimoe", "mixtral"])
def test_checkpointing_changes_no_gradient(name):
    """Also where routers draw noise while training: they behave as in `eval()`."""
    model = precise(name)
    with selective_experts(model, some_experts(inspect_model(model))) as selective:
        plain = gradients(model, selective)
        for own in selective.parameters():
            own.grad = None
        with checkpointed(model):
            again = gradients(model, selective)
    torch.testing.assert_close(again, plain, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", FAMILIES)
def test_keeping_all_tokens_as_on_a_gpu_changes_no_gradient(name):
    model = precise(name)
    with selective_experts(model, some_experts(inspect_model(model))) as selective:
        selective.set_active(selective.experts[:1] + selective.experts[-1:])
        plain = gradients(model, selective)
        for within in (nullcontext(), checkpointed(model)):
            for layer in selective._layers.values():
                layer.keeps_all = True
            for own in selective.parameters():
                own.grad = None
            with within:
                torch.testing.assert_close(gradients(model, selective), plain, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "gpt_oss", "longcat_flash"])
def test_a_step_moves_the_chosen_experts_and_nothing_else(name, tmp_path):
    model = build(name).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layout = inspect_model(model)
    experts = some_experts(layout)
    with selective_experts(model, experts) as selective:
        optimizer = torch.optim.SGD(selective.parameters(), lr=10.0)
        answer_losses(model, ROWS)[0].mean().backward()
        optimizer.step()
        inside = answer_losses(model, ROWS)[0]
    # What trained is what is left behind.
    torch.testing.assert_close(answer_losses(model, ROWS)[0], inside, rtol=1e-5, atol=1e-5)
    moved = set()
    for key, value in model.state_dict().items():
        layer = next((layer for layer in layout.layers if key in layer.parameters), None)
        if layer is None:
            assert torch.equal(value, before[key]), key
            continue
        changed = (value != before[key]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        moved |= {(layer.index, expert) for expert in changed}
    assert moved
    assert moved <= set(experts)


def test_an_expert_that_does_not_exist():
    model = build("olmoe")
    with pytest.raises(InputError, match="L09_E00 does not exist"), selective_experts(model, [(9, 0)]):
        pass
    with pytest.raises(InputError, match="experts: names no expert"), selective_experts(model, []):
        pass
