import math

import pytest
import torch

from moe_safety.models.routers import divergence, mean_distribution, summed_distribution, top_k_overlap


def two_layers():
    """Two rows of two tokens; the second row's second token is padding."""
    first = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.0, 1.0]])
    second = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    return [first, second], torch.tensor([[True, True], [True, False]])


def test_means_are_of_counted_tokens_layer_by_layer():
    probabilities, counted = two_layers()
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]])
    torch.testing.assert_close(mean_distribution(probabilities, counted), expected)


def test_what_stands_in_padding_changes_nothing():
    probabilities, counted = two_layers()
    expected = mean_distribution(probabilities, counted)
    for layer in probabilities:
        layer[3] = torch.nan
    assert torch.equal(mean_distribution(probabilities, counted), expected)


def test_sums_of_micro_batches_add_up():
    probabilities, counted = two_layers()
    pieces = [
        summed_distribution([layer[rows] for layer in probabilities], counted[row])
        for row, rows in enumerate((slice(0, 2), slice(2, 4)))
    ]
    torch.testing.assert_close(sum(pieces) / counted.sum(), mean_distribution(probabilities, counted))


def test_divergence_by_hand():
    target, now = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.75, 0.25], [1.0, 0.0]])
    forward = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    reverse = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    for form, value in {"forward": forward, "reverse": reverse, "symmetric": (forward + reverse) / 2}.items():
        torch.testing.assert_close(divergence(target, now, form), torch.tensor([value, 0.0]))


def test_the_mean_comes_before_the_divergence():
    """Two tokens that differ from the target in opposite ways have the target's mean: nothing to mend."""
    target = torch.tensor([[0.5, 0.5]])
    now = [torch.tensor([[0.9, 0.1], [0.1, 0.9]])]
    counted = torch.ones(2, dtype=torch.bool)
    assert divergence(target, mean_distribution(now, counted), "forward").item() == pytest.approx(0, abs=1e-7)
    assert divergence(target, now[0], "forward").min() > 0.5


def test_gradients_are_finite_where_an_expert_is_never_likely():
    logits = torch.tensor([[0.0, -200.0, 1.0]], requires_grad=True)
    now = mean_distribution([logits.softmax(dim=1)], torch.tensor([True]))
    target = torch.tensor([[0.3, 0.4, 0.3]])
    for form in ("forward", "reverse", "symmetric"):
        (grad,) = torch.autograd.grad(divergence(target, now, form).sum(), logits, retain_graph=True)
        assert grad.isfinite().all()
        assert grad.any()


def test_overlap_counts_shared_experts_of_counted_tokens_in_any_slot():
    before = torch.tensor([[[0, 1], [2, 3], [4, 5]], [[0, 1], [2, 3], [4, 5]]])
    after = torch.tensor([[[1, 0], [3, 6], [0, 1]], [[6, 7], [2, 3], [4, 5]]])
    counted = torch.tensor([True, True, False])
    assert top_k_overlap(before, after, counted).tolist() == [0.75, 0.5]
