"""Rows that stand end to end in one line of tokens give what padded rows give, where a family lets them."""

import math
from types import SimpleNamespace

import pytest
import torch

from moe_safety import inspect_model, selective_experts
from moe_safety.batches import Example
from moe_safety.models.experts import use_our_experts
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.models.text.packed_attention import packable, packed_attention, packing
from moe_safety.train import loop, worker
from moe_safety.train.data import micro_batches
from tests.families import FAMILIES, build
from tests.train.tiny import Case, run_case, spoiled_in_its_fourth_pass

CHANCE = torch.Generator().manual_seed(4)
PROMPTS, ANSWERS = (
    [torch.randint(3, 90, (length,), generator=CHANCE).tolist() for length in lengths]
    for lengths in ((6, 3, 4), (2, 5, 3))
)
PACKABLE = {
    *("aria_text", "axk1", "deepseek_v2", "deepseek_v3", "ernie4_5_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite"),
    *("granitemoe", "granitemoeshared", "hunyuan_v1_moe", "hy_v3", "longcat_flash", "minimax_m2", "mistral4", "olmoe"),
    *("minimax_m3_vl_text", "qwen2_moe", "qwen3_moe", "solar_open"),
}


def found(model, packed):
    """Losses, their rows, and the gradients of two experts in every layer."""
    experts = [(layer.index, expert) for layer in inspect_model(model).layers for expert in (0, 2)]
    with selective_experts(model, experts) as selective:
        losses, row = answer_losses(model, make_rows(PROMPTS, ANSWERS, packed=packed))
        (losses * (row + 1)).sum().backward()
        return [losses.detach(), row, *(own.grad for own in selective.parameters())]


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_losses_and_gradients_of_padded_ones(name):
    """Every other family, which looks beyond a row in some way, is padded."""
    model = use_our_experts(build(name)).eval()
    assert packable(model) == (name in PACKABLE)
    if packable(model):
        for here, there in zip(found(model, True), found(model, False), strict=True):
            torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-6)


def test_a_window_keeps_a_family_from_packing():
    assert not packable(build("mixtral"))
    without = build("mixtral")
    without.config.sliding_window = None
    assert packable(without)


def test_the_first_token_of_a_row_is_not_asked_of_the_row_before():
    rows = make_rows([[], [5]], [[7, 8], [6]], packed=True)
    place, token, row = rows.answers()
    assert (place.tolist(), token.tolist(), row.tolist()) == ([0, 2], [8, 6], [0, 1])
    assert [each.tolist() for each in make_rows([[], [5]], [[7, 8], [6]]).answers()] == [[0, 2], [8, 6], [0, 1]]
    assert rows.inputs["position_ids"].tolist() == [[0, 1, 0, 1]]
    assert rows.inputs["cu_seq_lens_q"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    "settings",
    [{}, {"micro": 12, "clip": 1.0}, {"replay": True}, {"masking": "routing"}, {"phase": "router", "micro": 12}],
    ids=str,
)
def test_training_on_packed_rows_is_training_on_padded_ones(settings):
    """In float64, since Adam makes whole steps out of the last digits of tiny gradients."""
    padded, packed = (run_case(Case(epochs=1, dtype=torch.float64, packed=each, **settings)) for each in (False, True))
    assert [row["tokens"] for row in packed["log"]] == [row["tokens"] for row in padded["log"]]
    for here, there in zip(packed["log"], padded["log"], strict=True):
        assert math.isclose(here["loss"], there["loss"], rel_tol=1e-6)
    for name, tensor in padded["after"].items():
        torch.testing.assert_close(packed["after"][name], tensor, rtol=1e-5, atol=1e-6)


def test_micro_batches_of_packed_rows_count_their_own_tokens():
    rows = [Example(0, place, "safe", [1] * length, [2]) for place, length in enumerate((6, 1, 2, 9, 3))]
    groups = [[len(row) for row in group] for group in micro_batches(rows, 9, packed=True)]
    assert groups == [[7, 2], [3], [10], [4]]
    assert micro_batches(rows, None, packed=True) == [rows]
    assert micro_batches([], 9, packed=True) == []


def test_on_a_processor_rows_are_padded():
    model = build("olmoe")
    before = model.config._attn_implementation
    with packing(model) as packed:
        assert not packed
        assert model.config._attn_implementation == before


def test_what_is_not_plain_attention_takes_no_packed_rows():
    heads = torch.zeros(1, 2, 4, 8)
    limits = torch.tensor([0, 4], dtype=torch.int32)
    for named in ({"sliding_window": 3}, {"softcap": 1.0}, {"s_aux": heads}):
        with pytest.raises(NotImplementedError, match=f"attention with {next(iter(named))} does not take"):
            packed_attention(None, heads, heads, heads, None, cu_seq_lens_q=limits, max_length_q=4, **named)


def test_steps_are_recorded_where_kernels_run(monkeypatch):
    """Else a pass would leave out what a mask without experts leaves out, and be run again for other masks."""
    settings = SimpleNamespace(checkpointing=False, masking="gradient", routing="free", on_deepspeed=False)
    task = SimpleNamespace(config=SimpleNamespace(train=settings), declared=SimpleNamespace(loss="answers"))
    model = build("olmoe")
    assert not worker._is_steady(task, model)
    monkeypatch.setattr(worker, "serves", lambda tensor: True)
    assert worker._is_steady(task, model)
    settings.routing = "replay"
    assert not worker._is_steady(task, model)


@pytest.fixture
def late(monkeypatch):
    """As on a card: what a step gave is read when the next one has begun."""
    monkeypatch.setattr(loop._Made, "waits", True)


def test_numbers_that_are_read_late_are_the_same(late, tmp_path):
    case = Case(epochs=3, folder=str(tmp_path), checkpoint_every=4, stop_after=10)
    run_case(case)
    case.stop_after = None
    told = run_case(case)["log"]
    assert [row["step"] for row in told] == list(range(15))
    loop._Made.waits = False
    straight = run_case(Case(epochs=3))["log"]
    assert [row["batch_losses"] for row in told] == [row["batch_losses"] for row in straight]


def test_no_checkpoint_holds_what_is_no_number_though_that_is_read_late(late, tmp_path, monkeypatch):
    left = spoiled_in_its_fourth_pass(monkeypatch, tmp_path)
    assert left == ["step-00000002", "step-00000002.json"]
