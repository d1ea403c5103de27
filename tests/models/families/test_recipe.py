"""The recipe for a family, followed: its one file, and a model of it counted, held back, trained, saved, verified."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.integrations.moe import use_experts_implementation
from transformers.models.mixtral.modeling_mixtral import MixtralExperts, MixtralTopKRouter

from moe_safety import count_routing, inspect_model, selective_experts
from moe_safety.checkpoints import verify
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.experts import holding_back
from moe_safety.models.families import FAMILIES
from moe_safety.models.io import load_model
from moe_safety.models.io.save import save_model
from moe_safety.models.routers import avoiding

RECIPE = re.search(
    r"### A model family .*?```python\n(.*?)```", Path("CONTRIBUTING.md").read_text(), re.DOTALL
).group(1)  # fmt: skip
IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(6))


class WanderConfig(MixtralConfig):
    model_type = "wander"


@use_experts_implementation
class WanderExperts(MixtralExperts):
    """That a model's own module uses this decorator is how transformers knows that its experts use the interface."""


class WanderBlock(torch.nn.Module):
    """Mixtral's, but for the name of the router."""

    def __init__(self, config):
        super().__init__()
        self.chooser, self.experts = MixtralTopKRouter(config), WanderExperts(config)

    def forward(self, hidden):
        rows = hidden.flatten(0, -2)
        _, weights, index = self.chooser(rows)
        return self.experts(rows, index, weights).view_as(hidden)


class WanderForCausalLM(MixtralForCausalLM):
    config_class = WanderConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = WanderBlock(config)
        self.post_init()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    AutoConfig.register("wander", WanderConfig, exist_ok=True)
    AutoModelForCausalLM.register(WanderConfig, WanderForCausalLM, exist_ok=True)
    sizes = {"hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4, "num_key_value_heads": 4}
    config = WanderConfig(vocab_size=96, num_hidden_layers=2, num_local_experts=8, initializer_range=0.3, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        WanderForCausalLM(config).save_pretrained(folder := tmp_path_factory.mktemp("wander"))
    return ModelConfig(name=str(folder), dtype="float32")


@pytest.fixture
def added(monkeypatch, tmp_path):
    """The recipe's file, which stands outside of the tree, is all that is added."""
    monkeypatch.setattr(FAMILIES, "_own", {name: one for name, one in FAMILIES._own.items() if name != "wander"})
    (file := tmp_path / "wander.py").write_text(RECIPE)
    exec(compile(file.read_text(), file, "exec"), {})


@pytest.mark.usefixtures("added")
def test_the_recipe_is_all_that_a_family_needs(base, tmp_path):
    model = load_model(base)
    layout = inspect_model(model)
    assert [layer.router for layer in layout.layers] == [f"model.layers.{number}.mlp.chooser" for number in (0, 1)]

    everywhere = torch.ones_like(IDS)
    counts = count_routing(model, IDS, everywhere, everywhere)
    chosen = []
    hook = model.model.layers[0].mlp.chooser.register_forward_hook(lambda *call: chosen.append(call[2][2]))
    with torch.no_grad():
        logits = model(input_ids=IDS, attention_mask=everywhere).logits
    hook.remove()
    by_hand = torch.stack([row.flatten().bincount(minlength=8) for row in chosen[0].view(2, -1)])
    assert torch.equal(counts[:, 0], by_hand)
    best = int(counts[:, 0].sum(dim=0).argmax())
    with avoiding(model, layout, [(0, best)]):
        assert count_routing(model, IDS, everywhere, everywhere)[:, 0, best].sum() == 0

    held = torch.zeros(2, *layout.shape, dtype=torch.bool)
    held[0, 0, best] = True
    with torch.no_grad(), holding_back(model, layout, held):
        without = model(input_ids=IDS, attention_mask=everywhere).logits
    assert not torch.allclose(without[0], logits[0])
    torch.testing.assert_close(without[1], logits[1])

    with selective_experts(model, [(0, best)]) as selective:
        model(input_ids=IDS, labels=IDS).loss.backward()
        torch.optim.SGD(selective.parameters(), lr=1.0).step()
    (tuned := tmp_path / "tuned").mkdir()
    save_model(model, tuned)
    report = verify(base.name, tuned, [(0, best)])
    assert (report.experts, report.violations) == ([(0, best)], [])
    assert verify(base.name, tuned, [(0, (best + 1) % 8)]).violations


def test_without_it_the_family_is_not_known(base):
    with pytest.raises(InputError, match="no router found beside"):
        load_model(base)
