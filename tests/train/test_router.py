"""The router phase: KL between mean routing distributions, felt by routers alone."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from moe_safety.batches import Batch, Example
from moe_safety.models import inspect_model
from moe_safety.models.experts import checkpointed, use_our_experts
from moe_safety.models.routers import routers
from moe_safety.train.phases import RouterPhase
from tests.families import build

GENERATOR = torch.Generator().manual_seed(2)


def batch():
    def tokens(count):
        return torch.randint(3, 90, (count,), generator=GENERATOR).tolist()

    labels = ["safe", "safe", "unsafe", "unsafe", "benign"]
    return Batch(
        0, [Example(0, n, label, tokens(3 + n), tokens(2 + (n * 3) % 4)) for n, label in enumerate(labels)], 1.0
    )


def trained(family="olmoe"):
    model = use_our_experts(build(family)).eval().requires_grad_(False)
    layout = inspect_model(model)
    parameters = {name: model.get_parameter(name).requires_grad_() for name in routers(model, layout)}
    return model, layout, parameters


def means(model, layout, batch, label):
    """By hand: one prompt at a time, the softmax of the router's logits, averaged over answer tokens."""
    found, kept = [[] for _ in layout.layers], {}
    for example in batch.of(label):
        handles = [
            model.get_submodule(layer.router).register_forward_hook(
                lambda module, args, out, place=place: kept.__setitem__(place, out[0])
            )
            for place, layer in enumerate(layout.layers)
        ]
        model(torch.tensor([example.prompt + example.target]))
        for handle in handles:
            handle.remove()
        for place in range(layout.n_moe_layers):
            logits = kept[place].view(len(example), -1)
            chances = logits if torch.allclose(logits.sum(-1), torch.ones(())) else logits.softmax(-1)
            found[place].append(chances[len(example.prompt) :])
    return torch.stack([torch.cat(each).mean(dim=0) for each in found])


def run(phase, one, passes=None):
    losses = []
    value = phase.run(one, passes or phase.passes(one), 1.0, lambda loss: (losses.append(loss), loss.backward()))
    return value


@pytest.mark.parametrize("family", ["olmoe", "mixtral", "qwen3_moe", "deepseek_v3", "gpt_oss"])
def test_checkpointed_layers_give_the_same_gradient(family):
    one, found = batch(), []
    for again in (False, True):
        model, layout, parameters = trained(family)
        with checkpointed(model) if again else nullcontext():
            loss = run(RouterPhase(model, layout, form="forward"), one)
        found.append((loss, {name: parameter.grad for name, parameter in parameters.items()}))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(grad, found[1][1][name]) for name, grad in found[0][1].items())
    assert any(grad.any() for grad in found[0][1].values())


@pytest.mark.parametrize("form", ["forward", "reverse", "symmetric"])
@pytest.mark.parametrize("budget", [None, 8])
def test_loss_and_gradient_equal_those_written_out(form, budget):
    model, layout, parameters = trained()
    one = batch()
    target = means(model, layout, one, "safe").detach()
    now = means(model, layout, one, "unsafe")
    forward = (target * (target / now).log()).sum(-1)
    reverse = (now * (now / target).log()).sum(-1)
    expected = {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}[form].mean()
    wanted = torch.autograd.grad(expected, list(parameters.values()))
    phase = RouterPhase(model, layout, form=form, micro_batch_tokens=budget)
    assert run(phase, one) == pytest.approx(float(expected.detach()), rel=1e-4)
    if budget:
        assert phase.passes(one)[1] > 1
    for parameter, grad in zip(parameters.values(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-4, atol=1e-7)
    others = [name for name, each in model.named_parameters() if each.grad is not None and name not in parameters]
    assert others == []


def test_a_batch_weighs_what_it_should():
    model, layout, parameters = trained()
    one = batch()
    phase = RouterPhase(model, layout, form="forward")
    loss = run(phase, one)
    wanted = [parameter.grad.clone() / 4 for parameter in parameters.values()]
    for parameter in parameters.values():
        parameter.grad = None
    assert run(phase, replace(one, weight=0.25)) == pytest.approx(loss / 4)
    for parameter, grad in zip(parameters.values(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-5, atol=1e-9)


def test_idle_passes_add_nothing():
    model, layout, parameters = trained()
    one = batch()
    phase = RouterPhase(model, layout, form="forward")
    run(phase, one)
    wanted = [parameter.grad.clone() for parameter in parameters.values()]
    for parameter in parameters.values():
        parameter.grad = None
    run(phase, one, passes=[3, 3])
    assert run(phase, None, passes=[2, 2]) == 0
    for parameter, grad in zip(parameters.values(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=0, atol=0)


@pytest.mark.parametrize("label", ["safe", "unsafe"])
def test_a_side_without_a_counted_token_teaches_nothing(label):
    model, layout, parameters = trained()
    one = batch()
    mute = [replace(each, target=[]) if each.label == label else each for each in one.examples]
    assert run(RouterPhase(model, layout, form="forward"), replace(one, examples=mute)) == 0
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in parameters.values())
