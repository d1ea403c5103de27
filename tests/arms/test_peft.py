"""The arm `lora` beside PEFT itself: from the same factors the same weights."""

import copy

import peft
import torch

from moe_safety.arms import ARMS, Asked
from moe_safety.arms.low_rank import LowRankSettings
from moe_safety.models import inspect_model
from moe_safety.models.experts import use_our_experts
from tests.arms.test_low_rank import loss_of
from tests.families import build

RATE, STEPS = 0.5, 3
"""With the second step A moves too."""


def descend(model, parameters):
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses.append(loss_of(model))
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).detach()


def by_peft(model, drawn, own):
    """PEFT's losses and merged weights, from factors A that are `drawn`, by the names of the matrices."""
    from peft.tuners.lora.layer import LoraLayer

    attention = sorted({name.split(".")[-2] for name in drawn if "self_attn" in name})
    experts = sorted({name.rpartition("mlp.")[2] for name in drawn if ".experts." in name})
    asked = peft.LoraConfig(
        r=own.rank, lora_alpha=own.alpha, lora_dropout=0.0, target_modules=attention, target_parameters=experts
    )
    wrapped, begun = peft.get_peft_model(model, asked), set()
    for path, module in wrapped.named_modules():
        if isinstance(module, LoraLayer):
            path = path.removeprefix("base_model.model.").replace(".base_layer", "")
            name = f"{path}.{getattr(module, 'parameter_name', 'weight')}"
            a = module.lora_A["default"].weight
            assert not module.lora_B["default"].weight.any()
            a.data.copy_(drawn[name].reshape(a.shape))
            begun.add(name)
    assert begun == drawn.keys(), "PEFT trains what we do, and nothing else"
    losses = descend(wrapped, [own for own in wrapped.parameters() if own.requires_grad])
    return losses, wrapped.merge_and_unload().state_dict()


def test_from_the_same_factors_it_learns_what_peft_learns():
    model, own = use_our_experts(build("olmoe")).eval(), LowRankSettings(rank=4, alpha=8)
    before, other = copy.deepcopy(model.state_dict()), copy.deepcopy(model)
    with ARMS.get("lora").trains(model, Asked(inspect_model(model), own=own, seed=5)) as trained:
        drawn = {name[:-2]: a.detach().clone() for name, a in trained.parameters.items() if name.endswith(".a")}
        losses = descend(model, trained.parameters.values())
    theirs, merged = by_peft(other, drawn, own)
    torch.testing.assert_close(losses, theirs, rtol=1e-6, atol=1e-6)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, merged[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(tensor, before[name]) == (name not in trained.changes), name
    assert losses[-1] < losses[0] - 0.01
