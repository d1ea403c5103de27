import pytest
import torch

from moe_safety import expert_gradients, inspect_model
from moe_safety.models.experts import gradient_magnitudes, use_our_experts
from moe_safety.models.kernels import card, formulas
from moe_safety.models.text.answer_losses import Rows, make_rows
from tests.families import FAMILIES, build
from tests.models.padding import padded

GENERATOR = torch.Generator().manual_seed(7)
PROMPTS = [torch.randint(3, 90, (n,), generator=GENERATOR).tolist() for n in (6, 3, 4)]
ANSWERS = [torch.randint(3, 90, (n,), generator=GENERATOR).tolist() for n in (2, 5, 1)]
FLOAT32_ONLY = {"inkling2_text"}
"""Its own code mixes types in float64."""


def naive(model):
    """The reference: every prompt alone, the loss written out over answer tokens, one plain backward pass."""
    layout = inspect_model(model)
    model.zero_grad()
    losses = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].double()
        for n, token in enumerate(answer):
            losses.append(-torch.log_softmax(logits[len(prompt) + n - 1], dim=0)[token])
    torch.stack(losses).mean().backward()
    scores = torch.zeros(layout.shape, dtype=torch.float64)
    for position, layer in enumerate(layout.layers):
        for expert in range(layer.num_experts):
            grads = [model.get_parameter(name).grad for name in layer.parameters]
            total = sum(grad[expert].double().abs().sum() for grad in grads if grad is not None)
            scores[position, expert] = total / layer.parameters_per_expert
    model.zero_grad()
    return scores


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_equal_a_plain_backward_pass(name):
    # In float64, where what is left of rounding comes from what the families themselves do in float32.
    model = use_our_experts(build(name) if name in FLOAT32_ONLY else build(name).double())
    scores = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)]).scores()
    expected = naive(model)
    assert (expected > 0).any()
    torch.testing.assert_close(scores, expected, rtol=3e-5 if name in FLOAT32_ONLY else 1e-6, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
def test_kernels_would_give_the_same(name, monkeypatch):
    """With the formulas in their place, and what is taken again in the backward pass."""
    model = use_our_experts(build(name))
    plain = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)])
    monkeypatch.setattr(card, "kernels", lambda tensor: formulas)
    for checkpointing in (False, True):
        found = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)], checkpointing=checkpointing)
        torch.testing.assert_close(found.scores(), plain.scores(), rtol=1e-3, atol=1e-7)
        assert torch.equal(found.tokens, plain.tokens)


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v3", "qwen3_moe"])
def test_packed_rows_give_the_same(name):
    model = use_our_experts(build(name))
    plain = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)])
    pieces = [make_rows(PROMPTS[rows], ANSWERS[rows], packed=True) for rows in (slice(2), slice(2, 3))]
    for given in ([make_rows(PROMPTS, ANSWERS, packed=True)], pieces):
        found = gradient_magnitudes(model, given)
        torch.testing.assert_close(found.scores(), plain.scores(), rtol=1e-3, atol=1e-7)
        assert torch.equal(found.tokens, plain.tokens)


def batch(side):
    ids, labels, mask = padded(PROMPTS, ANSWERS, side, rubbish=9)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "deepseek_v3", "gpt_oss"])
def test_padding_changes_nothing_on_either_side(name):
    model = use_our_experts(build(name))
    left, right = expert_gradients(model, batch("left")), expert_gradients(model, batch("right"))
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-10)
    for side in ("left", "right"):
        other = batch(side)
        other["input_ids"][other["attention_mask"] == 0] = 50
        torch.testing.assert_close(expert_gradients(model, other), right, rtol=1e-5, atol=1e-10)


def test_prompt_tokens_carry_no_loss():
    """Another last prompt token changes what is predicted from, but only answers are predicted."""
    model = use_our_experts(build("olmoe"))
    rows = make_rows(PROMPTS, ANSWERS)
    whole = Rows(rows.input_ids, rows.input_ids.clone())
    assert not torch.allclose(
        gradient_magnitudes(model, [rows]).scores(), gradient_magnitudes(model, [whole]).scores(), rtol=0.01
    )


def test_micro_batches_and_checkpointing_give_the_same():
    model = use_our_experts(build("qwen3_moe"))
    rows = make_rows(PROMPTS, ANSWERS)
    whole = gradient_magnitudes(model, [rows])
    pieces = [make_rows([p], [a]) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    torch.testing.assert_close(gradient_magnitudes(model, pieces).scores(), whole.scores(), rtol=1e-5, atol=1e-12)
    again = gradient_magnitudes(model, [rows], checkpointing=True)
    torch.testing.assert_close(again.scores(), whole.scores(), rtol=1e-6, atol=1e-12)
    assert torch.equal(again.tokens, whole.tokens)
    summed = sum(gradient_magnitudes(model, [piece]).scores() for piece in pieces)
    assert not torch.allclose(summed, whole.scores(), rtol=0.01), "magnitudes do not add up"


def test_padding_is_no_token_that_an_expert_received():
    model = use_our_experts(build("olmoe"))
    alone = [make_rows([p], [a]) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    tokens = sum(len(prompt) + len(answer) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True))
    top_k = inspect_model(model).layers[0].top_k
    for pieces in ([make_rows(PROMPTS, ANSWERS)], alone):
        found = gradient_magnitudes(model, pieces)
        assert (found.tokens.sum(dim=1) == tokens * top_k).all()
    assert torch.equal(found.tokens, gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)]).tokens)


def test_an_expert_without_tokens_has_no_gradient():
    model = use_our_experts(build("olmoe"))
    layer = inspect_model(model).layers[0]
    router = model.get_submodule(layer.router).weight
    torch.nn.init.zeros_(router)  # Every token goes to the same experts.
    found = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)])
    unused = found.tokens[0] == 0
    assert unused.any()
    assert (found.scores()[0][unused] == 0).all()
    assert (found.scores()[0][~unused] > 0).all()


def test_l2_is_the_root_mean_square():
    model = use_our_experts(build("olmoe"))
    found = gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)])
    assert (found.scores_l2() >= found.scores()).all()


def test_gradients_of_the_caller_s_own_neither_count_nor_are_lost():
    model = use_our_experts(build("olmoe")).requires_grad_(True)
    rows = make_rows(PROMPTS, ANSWERS)
    expected = gradient_magnitudes(model, [rows]).scores()
    model(input_ids=rows.input_ids).logits.sum().backward()
    own = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    assert torch.equal(gradient_magnitudes(model, [rows]).scores(), expected)
    assert all(torch.equal(parameter.grad, own[name]) for name, parameter in model.named_parameters())


def test_the_model_is_left_as_it_was():
    model = use_our_experts(build("olmoe")).train()
    model.lm_head.requires_grad_(False)
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    gradient_magnitudes(model, [make_rows(PROMPTS, ANSWERS)], checkpointing=True)
    assert model.training
    assert all(layer.training for layer in model.model.layers)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["lm_head.weight"]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()] == hooks
