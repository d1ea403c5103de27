"""What runs as a kernel on a GPU, with the formulas in the kernels' place: the same sums, where a family's formula is
the usual one, and nothing of it on the CPU. The kernels themselves: benchmarks/gpu/check.py."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck

from moe_safety import inspect_model, selective_experts
from moe_safety.models.experts import checkpointed, use_our_experts
from moe_safety.models.experts.forward import Dispatch
from moe_safety.models.kernels import card, formulas, fused_experts
from moe_safety.models.kernels.fused_rotary import FusedRotary, _Turn, fuse_rotary, is_usual
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from tests.families import FAMILIES, build

CHANCE = torch.Generator().manual_seed(5)
LENGTHS = [((6, 3, 4), (3, 5, 2)), ((9, 2), (4, 4))]
"""Of prompts and answers."""
UNUSUAL_GATES = {"deepseek_v4", "gemma4_text", "gpt_oss", "hy_v4", "inkling2_text", "minimax_m3_vl_text", "nemotron_h"}
UNUSUAL_ROTARY = {"cohere2_moe", "deepseek_v4", "ernie4_5_moe", "gemma4_text", "gpt_oss"}


def rows_of(lengths):
    return make_rows(*([torch.randint(3, 90, (n,), generator=CHANCE).tolist() for n in each] for each in lengths))


ROWS = [rows_of(lengths) for lengths in LENGTHS]


class Recorded:
    """The formulas, and the names of those that ran."""

    def __init__(self):
        self.names = set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(formulas, name)


@pytest.fixture
def standing_in(monkeypatch):
    """Formulas run where kernels would on a GPU."""
    recorded = Recorded()
    monkeypatch.setattr(card, "kernels", lambda tensor: recorded)
    return recorded


def found(model, selective):
    """Losses and gradients."""
    losses = [answer_losses(model, rows)[0] for rows in ROWS]
    for own in selective.parameters():
        own.grad = None
    sum(loss.sum() for loss in losses).backward()
    return [loss.detach() for loss in losses] + [own.grad.clone() for own in selective.parameters()]


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=CHANCE).requires_grad_()


def test_the_gradients_are_those_of_the_formulas(standing_in):
    assert gradcheck(fused_experts._Gate.apply, (numbers(5, 6), numbers(5, 1)))
    cos, sin = (numbers(2, 4, 6).detach() for _ in range(2))
    assert gradcheck(lambda q, k: _Turn.apply(q, k, cos, sin), (numbers(2, 3, 4, 6), numbers(2, 1, 4, 6)))


def test_spreading_and_summing_are_what_plain_indexing_gives(monkeypatch):
    index = torch.rand(9, 6, generator=CHANCE).topk(3).indices
    dispatch, tokens = Dispatch(index, 6), torch.randn(9, 5, dtype=torch.float64, generator=CHANCE)
    plain = dispatch.gather(tokens), dispatch.sum_back(dispatch.gather(tokens))
    monkeypatch.setattr(card, "kernels", lambda tensor: formulas)
    assert torch.equal(dispatch.gather(tokens), plain[0])
    torch.testing.assert_close(dispatch.sum_back(plain[0]), plain[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_the_same(name, monkeypatch):
    model = fuse_rotary(use_our_experts(build(name)).eval())
    layout = inspect_model(model)
    experts = [(layer.index, expert) for layer in layout.layers for expert in (0, 2)]
    gates = {fused_experts._is_usual(model.get_submodule(layer.experts)) for layer in layout.layers}
    assert gates == {name not in UNUSUAL_GATES}
    with selective_experts(model, experts) as selective:
        selective.set_active(experts[1:])
        before = found(model, selective)
        recorded = Recorded()
        with monkeypatch.context() as patch:
            patch.setattr(card, "kernels", lambda tensor: recorded)
            inside = found(model, selective)
            with checkpointed(model):
                again = found(model, selective)
        assert all(map(torch.equal, before, found(model, selective))), "afterwards everything is as it was"
    assert {"dispatch", "spread", "summed"} <= recorded.names
    assert ("gate" in recorded.names) <= (name not in UNUSUAL_GATES)
    for one, other, third in zip(before, inside, again, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(third, one, rtol=1e-4, atol=1e-5)


def rotary_of(model):
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    return {file: vars(file)["apply_rotary_pos_emb"] for file in files if "apply_rotary_pos_emb" in vars(file)}


def turning(model):
    return [module for module in model.modules() if isinstance(module, FusedRotary)]


def test_most_families_turn_queries_and_keys_in_the_usual_way():
    assert sum(bool(turning(fuse_rotary(build(name)))) for name in FAMILIES) == 39


@pytest.mark.parametrize("name", FAMILIES)
def test_rotary_is_fused_where_it_is_the_usual_one_and_the_family_s_file_stays(name):
    model = fuse_rotary(fuse_rotary(build(name)))
    before = rotary_of(model)
    usual = {file.__name__ for file, function in before.items() if is_usual(function)}
    assert all(module.__module__ in usual for module in turning(model))
    assert bool(before) and not usual if name in UNUSUAL_ROTARY else len(usual) == len(before)
    model(input_ids=ROWS[0].input_ids)
    assert rotary_of(model) == before


def test_a_loaded_model_turns_by_the_kernel(standing_in):
    model = fuse_rotary(build("olmoe")).eval()
    model(input_ids=ROWS[0].input_ids)
    assert "turn" in standing_in.names
    assert len(turning(model)) == len(model.model.layers)


def test_on_the_cpu_nothing_changes():
    model, same = (use_our_experts(build("olmoe")).eval() for _ in range(2))
    same.load_state_dict(model.state_dict())
    fuse_rotary(same)
    assert torch.equal(model(input_ids=ROWS[0].input_ids).logits, same(input_ids=ROWS[0].input_ids).logits)


def test_kernels_serve_the_card_at_hand_alone(monkeypatch):
    """Triton launches on that one, whichever card the tensor is on."""
    written = object()
    monkeypatch.setattr(card, "_written", lambda: written)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)

    def tensor(index, dtype=torch.bfloat16):
        return SimpleNamespace(is_cuda=True, dtype=dtype, device=torch.device("cuda", index))

    assert card.kernels(tensor(1)) is written
    assert card.kernels(tensor(0)) is None
    assert card.kernels(tensor(1, torch.float64)) is None


def test_where_no_kernel_compiles_one_line_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    card._written.cache_clear()
    try:
        assert card._written() is None
        assert card._written() is None
    finally:
        card._written.cache_clear()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("no kernels compile here, so passes are slower: ")
