"""Layers as compiled code: the same sums, and nothing of it is left afterwards."""

import pytest
import torch
from torch._dynamo.utils import counters

from moe_safety import inspect_model, selective_experts
from moe_safety.models.answers import answer_losses, make_rows
from moe_safety.models.experts import use_our_experts
from moe_safety.models.experts.checkpointing import checkpointed
from moe_safety.models.experts.compiling import compiled
from tests.families import build

GENERATOR = torch.Generator().manual_seed(5)
LENGTHS = [((6, 3, 4), (3, 5, 2)), ((9, 2), (4, 4))]
"""Of prompts and answers; two shapes, one graph."""


def rows_of(lengths):
    return make_rows(*([torch.randint(3, 90, (n,), generator=GENERATOR).tolist() for n in each] for each in lengths))


ROWS = [rows_of(lengths) for lengths in LENGTHS]


def found(model, selective):
    """Losses and gradients."""
    losses = [answer_losses(model, rows)[0] for rows in ROWS]
    for own in selective.parameters():
        own.grad = None
    sum(loss.sum() for loss in losses).backward()
    return [loss.detach() for loss in losses] + [own.grad.clone() for own in selective.parameters()]


@pytest.mark.parametrize("name", ["olmoe", pytest.param("gpt_oss", marks=pytest.mark.soak)])
def test_compiled_layers_compute_the_same_and_leave_nothing_behind(name):
    model = use_our_experts(build(name)).eval()
    experts = [(layer.index, expert) for layer in inspect_model(model).layers for expert in (0, 2)]
    with selective_experts(model, experts) as selective:
        selective.set_active(experts[1:])
        before = found(model, selective)
        torch._dynamo.reset()
        counters.clear()
        with compiled(model):
            inside = found(model, selective)
            graphs = counters["stats"]["unique_graphs"]
            with checkpointed(model):
                again = found(model, selective)
        assert graphs > 0, "something was compiled"
        assert not all(map(torch.equal, before, inside)), "and it was run"
        for one, other, third in zip(before, inside, again, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(third, one, rtol=1e-4, atol=1e-6)
        counters.clear()
        assert all(map(torch.equal, before, found(model, selective))), "afterwards everything is as it was"
        assert not counters["stats"]
