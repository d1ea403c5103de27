"""Recorded passes: which rows go by them, and that their gradients are those of passes that are run."""

import pytest
import torch

from moe_safety import inspect_model, selective_experts
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts import use_our_experts
from moe_safety.models.kernels.graphs import Graphs, _shape
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from tests.families import build

CHANCE = torch.Generator().manual_seed(5)


class Rerun:
    """Stands in for a graph: runs the passes, in the tensors that a graph would."""

    made = 0

    def __init__(self, run, parameters, grads, pool):
        self.run, self.parameters, self.grads = run, parameters, grads
        self.hidden = run().detach()
        type(self).made += 1

    def forward(self):
        with torch.enable_grad():
            self.left = self.run()
        self.hidden.copy_(self.left.detach())

    def backward(self, grad):
        found = torch.autograd.grad(self.left, self.parameters, grad, allow_unused=True)
        for own, each in zip(self.grads, found, strict=True):
            own.zero_() if each is None else own.copy_(each)


def drawn(*lengths):
    texts = [torch.randint(3, 90, (length,), generator=CHANCE).tolist() for length in lengths]
    return make_rows(
        [text[: len(text) // 2] for text in texts], [text[len(text) // 2 :] for text in texts], packed=True
    )


STEPS = [[drawn(9, 30, 12)], [drawn(20, 21, 9), drawn(60, 8)], [drawn(51)], [drawn(70, 20), drawn(10, 30, 11)]]
"""The micro-batches of steps: two shapes."""


def gradients(selective, model):
    """Of each step, with a mask of its own."""
    found = []
    for number, rows in enumerate(STEPS):
        selective.set_active(selective.experts[number % 2 :: 2])
        for each in rows:
            answer_losses(model, each)[0].sum().backward()
        found += [None if own.grad is None else own.grad.clone() for own in selective.parameters()]
        for own in selective.parameters():
            own.grad = None
    return found


def test_recorded_passes_have_the_gradients_of_run_ones(monkeypatch):
    model = use_our_experts(build("olmoe")).eval()
    experts = [(layer.index, expert) for layer in inspect_model(model).layers for expert in (0, 2)]
    decoder = decoder_of(model)
    with selective_experts(model, experts) as selective:
        wanted = gradients(selective, model)
        graphs = Graphs(decoder.forward, selective.parameters(), Rerun)
        monkeypatch.setattr(decoder, "forward", graphs)
        found = gradients(selective, model)
        assert len(graphs.lines) == len(graphs.recorded) == Rerun.made == 2
        monkeypatch.undo()
    for here, there in zip(found, wanted, strict=True):
        torch.testing.assert_close(here, torch.zeros_like(here) if there is None else there, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_recorded_runs_as_ever_and_says_so_once(monkeypatch, caplog):
    model = use_our_experts(build("olmoe")).eval()
    experts = [(layer.index, 0) for layer in inspect_model(model).layers]

    def failing(*given):
        raise RuntimeError("not here\nnor there")

    with selective_experts(model, experts) as selective:
        wanted = gradients(selective, model)
        monkeypatch.setattr(
            decoder_of(model), "forward", Graphs(decoder_of(model).forward, selective.parameters(), failing)
        )
        found = gradients(selective, model)
        monkeypatch.undo()
    assert caplog.messages == ["steps cannot be recorded, so training is slower: not here"]
    for here, there in zip(found, wanted, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-6)


def test_padded_rows_and_passes_that_learn_nothing_are_not_recorded(monkeypatch):
    model = use_our_experts(build("olmoe")).eval()
    graphs = Graphs(decoder_of(model).forward, model.parameters(), Rerun)
    monkeypatch.setattr(decoder_of(model), "forward", graphs)
    answer_losses(model, make_rows([[5, 6]], [[7]]))
    with torch.no_grad():
        answer_losses(model, STEPS[0][0])
    assert not graphs.lines


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 2048, 5104, 5121, 100_000])
def test_lines_are_filled_up_by_little(tokens):
    filled, rows, longest = _shape(tokens, 24, min(tokens, 423))
    assert tokens <= filled <= max(tokens * 17 / 16, tokens + 63)
    assert rows == 24
    assert longest >= max(1024, filled - tokens)
