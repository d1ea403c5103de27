"""The library's functions on a model as it comes, in families with a call of their own and without."""

import pytest
import torch

from moe_safety import count_routing, expert_effects, expert_gradients
from moe_safety.models.experts import use_our_experts
from tests.families import build

IDS = torch.randint(3, 90, (2, 8), generator=torch.Generator().manual_seed(2))
MASK = torch.ones_like(IDS)
BATCH = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.where(torch.arange(8) > 4, IDS, -100)}


def all_three(model):
    effects = expert_effects(model, [IDS[0, :4].tolist()], [[5, 6]], [[7]])
    return count_routing(model, IDS, MASK, MASK), expert_gradients(model, BATCH), effects


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "llama4_text", "longcat_flash", "zaya"])
def test_a_model_as_it_comes_gives_the_same_and_stays_as_it_came(name):
    model = build(name)
    classes = [type(module) for module in model.modules()]
    implementation = model.config._experts_implementation
    counts, gradients, effects = all_three(model)
    assert [type(module) for module in model.modules()] == classes
    assert model.config._experts_implementation == implementation

    ours = all_three(use_our_experts(build(name)))
    assert torch.equal(counts, ours[0])
    torch.testing.assert_close(gradients, ours[1], rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(effects, ours[2], rtol=1e-3, atol=1e-5, equal_nan=True)
