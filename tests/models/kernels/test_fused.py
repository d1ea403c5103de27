"""What runs as compiled code on a GPU: the same sums, where a family's formula is the usual one, and nothing stays."""

import sys
from contextlib import contextmanager

import pytest
import torch
from torch._dynamo.utils import counters
from torch.autograd import gradcheck

from moe_safety import inspect_model, selective_experts
from moe_safety.models.experts import checkpointed, forward, use_our_experts
from moe_safety.models.kernels import compiled as compiling
from moe_safety.models.kernels import fused_experts
from moe_safety.models.kernels.fused_rotary import _is_usual, _Turn, fused_rotary
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from tests.families import FAMILIES, build

CHANCE = torch.Generator().manual_seed(5)
LENGTHS = [((6, 3, 4), (3, 5, 2)), ((9, 2), (4, 4))]
"""Of prompts and answers; two shapes, one compilation."""
UNUSUAL_GATES = {"deepseek_v4", "gemma4_text", "gpt_oss", "hy_v4", "inkling2_text", "minimax_m3_vl_text", "nemotron_h"}
UNUSUAL_ROTARY = {"cohere2_moe", "deepseek_v4", "ernie4_5_moe", "gemma4_text", "gpt_oss"}


def rows_of(lengths):
    return make_rows(*([torch.randint(3, 90, (n,), generator=CHANCE).tolist() for n in each] for each in lengths))


ROWS = [rows_of(lengths) for lengths in LENGTHS]


@contextmanager
def all_fused(model):
    with fused_experts.fused_experts("cpu"), fused_rotary(model, "cpu"):
        yield


@contextmanager
def uncompiled():
    """The formulas as they stand."""
    with torch.compiler.set_stance("force_eager"):
        yield


def found(model, selective):
    """Losses and gradients."""
    losses = [answer_losses(model, rows)[0] for rows in ROWS]
    for own in selective.parameters():
        own.grad = None
    sum(loss.sum() for loss in losses).backward()
    return [loss.detach() for loss in losses] + [own.grad.clone() for own in selective.parameters()]


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=CHANCE).requires_grad_()


def test_the_gradients_are_those_of_the_formulas():
    with uncompiled():
        assert gradcheck(fused_experts._Gate.apply, (numbers(5, 6), numbers(5, 1)))
        cos, sin = (numbers(2, 1, 4, 6).detach() for _ in range(2))
        assert gradcheck(lambda q, k: _Turn.apply(q, k, cos, sin), (numbers(2, 3, 4, 6), numbers(2, 1, 4, 6)))


def test_sums_over_experts_are_the_same():
    places, back = torch.randn(12, 5, dtype=torch.float64, generator=CHANCE), torch.randperm(12, generator=CHANCE)
    torch.testing.assert_close(fused_experts.summed(places, back, 3), forward.summed(places, back, 3))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_the_same(name):
    model = use_our_experts(build(name)).eval()
    layout = inspect_model(model)
    experts = [(layer.index, expert) for layer in layout.layers for expert in (0, 2)]
    gates = {fused_experts._is_usual(model.get_submodule(layer.experts)) for layer in layout.layers}
    assert gates == {name not in UNUSUAL_GATES}
    with selective_experts(model, experts) as selective:
        selective.set_active(experts[1:])
        before = found(model, selective)
        with all_fused(model), uncompiled():
            inside = found(model, selective)
    for one, other in zip(before, inside, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def rotary_of(model):
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    return {file: vars(file)["apply_rotary_pos_emb"] for file in files if "apply_rotary_pos_emb" in vars(file)}


def test_most_families_turn_queries_and_keys_in_the_usual_way():
    usual = [name for name in FAMILIES if any(map(_is_usual, rotary_of(build(name)).values()))]
    assert len(usual) == 42


@pytest.mark.parametrize("name", FAMILIES)
def test_rotary_is_fused_where_it_is_the_usual_one_and_put_back(name):
    model = build(name)
    before = rotary_of(model)
    with fused_rotary(model, "cpu"):
        inside = rotary_of(model)
    assert rotary_of(model) == before
    assert all((inside[file] is function) == (name in UNUSUAL_ROTARY) for file, function in before.items())


def test_compiled_code_computes_the_same_once_for_all_lengths_and_leaves_nothing_behind():
    model = use_our_experts(build("olmoe")).eval()
    experts = [(layer.index, expert) for layer in inspect_model(model).layers for expert in (0, 2)]
    steps = dict(forward.STEPS)
    with selective_experts(model, experts) as selective:
        selective.set_active(experts[1:])
        before = found(model, selective)
        torch._dynamo.reset()
        counters.clear()
        with all_fused(model):
            inside = found(model, selective)
            graphs = counters["stats"]["unique_graphs"]
            with checkpointed(model):
                again = found(model, selective)
        assert graphs == counters["stats"]["unique_graphs"] == len(("gate", "its gradient", "sum", "turn", "turn back"))
        for one, other, third in zip(before, inside, again, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(third, one, rtol=1e-4, atol=1e-6)
        counters.clear()
        assert all(map(torch.equal, before, found(model, selective))), "afterwards everything is as it was"
        assert not counters["stats"]
    assert steps == forward.STEPS


def test_what_is_not_on_such_a_device_is_left_alone():
    model = use_our_experts(build("olmoe")).eval()
    experts = [(layer.index, 0) for layer in inspect_model(model).layers]
    with selective_experts(model, experts) as selective:
        before = found(model, selective)
        counters.clear()
        with fused_experts.fused_experts(), fused_rotary(model):
            assert all(map(torch.equal, before, found(model, selective)))
        assert not counters["stats"]


def test_where_nothing_compiles_the_formulas_run_as_they_stand(monkeypatch, caplog):
    def failing(function):
        def run(*given):
            raise RuntimeError("no compiler here")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    for each in (compiling._can_compile, compiling.compiled):
        each.cache_clear()
    try:
        assert compiling.compiled(fused_experts.gate) is fused_experts.gate
        assert "nothing compiles here, so training is slower: no compiler here" in caplog.text
    finally:
        for each in (compiling._can_compile, compiling.compiled):
            each.cache_clear()
