"""Declarations of families: each complete, and one that another package brings served as any other."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moe_safety import checks
from moe_safety.models.families import FAMILIES, AdoptedExperts, Rule, declared
from tests import families

IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(6))
MASK = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])

USE = """
import json, sys
import torch
from moe_safety import count_routing, inspect_model, selective_experts
from moe_safety.config import ModelConfig
from moe_safety.models.routers import avoiding
from moe_safety.models.io import load_model, model_fingerprint

folder, ids, mask = sys.argv[1], torch.tensor(json.loads(sys.argv[2])), torch.tensor(json.loads(sys.argv[3]))
model = load_model(ModelConfig(name=folder, dtype="float32"))
layout = inspect_model(model)
with avoiding(model, layout, [(1, 0)]):
    avoided = count_routing(model, ids, mask, mask)
with selective_experts(model, [(2, 1)]) as selective:
    model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
    moved = [bool(parameter.grad.any()) for parameter in selective.parameters()]
print(json.dumps({
    "counts": count_routing(model, ids, mask, mask).tolist(), "avoided": avoided.tolist(), "moved": moved,
    "logits": model(input_ids=ids, attention_mask=mask).logits.tolist(), "fingerprint": model_fingerprint(
        ModelConfig(name=folder)), "layers": [[layer.index, layer.router, layer.top_k] for layer in layout.layers],
}))
"""


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_declaration_is_complete(family):
    assert declared(family.name) is family
    if family.refusal:
        assert "\n" not in family.refusal
        assert family.refusal == families.refusal(family.name)
        assert (family.rule, family.adoption) == (None, None)
        return
    assert family.name in families.FAMILIES, "a tiny model of it is tested"
    assert family.rule is None or isinstance(family.rule, Rule)
    if family.adoption:
        assert issubclass(family.adoption.experts, AdoptedExperts)
        names = {type(module).__name__ for module in families.build(family.name).modules()}
        assert family.adoption.experts_class in names


def test_a_family_that_nothing_is_declared_of_is_served_by_its_name():
    assert declared("aria_text").name == "aria_text"
    assert "aria_text" not in FAMILIES


@pytest.fixture
def package(tmp_path):
    """A folder as an installed package leaves it: its module, and its entry point."""
    shutil.copy(Path(__file__).with_name("brought_family.py"), tmp_path / "wander.py")
    info = tmp_path / "wander-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wander\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[moe_safety.families]\nwander = wander:WANDER\n")
    return tmp_path


def use(package, checkpoint):
    """What a fresh process makes of the checkpoint, the package being installed."""
    given = [str(checkpoint), *(json.dumps(each.tolist()) for each in (IDS, MASK))]
    root = str(Path(checks.__file__).parent.parent)
    code = f"import sys; sys.path[:0] = {[str(package), root]!r}\n{USE}"
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def by_hand(model):
    """How often each expert is chosen for a real token: the stock model, row by row and token by token."""
    counts = torch.zeros(2, 2, 8, dtype=torch.int64)
    for row, (ids, length) in enumerate(zip(IDS, MASK.sum(dim=1).tolist(), strict=True)):
        chosen = []
        handles = [
            layer.mlp.chooser.register_forward_hook(
                lambda module, args, answer, chosen=chosen: chosen.append(answer[2])
            )
            for layer in model.model.layers[1:]
        ]
        with torch.no_grad():
            model(input_ids=ids[None, :length])
        for handle in handles:
            handle.remove()
        for position, index in enumerate(chosen):
            for expert in index.flatten().tolist():
                counts[row, position, expert] += 1
    return counts


def test_a_family_of_another_package_is_served(package, tmp_path):
    from tests.models.families.brought_family import WanderConfig, WanderForCausalLM

    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = WanderForCausalLM(WanderConfig(num_hidden_layers=3, wander_experts=8, wander_top_k=2, **sizes)).eval()
    model.save_pretrained(tmp_path / "checkpoint")
    found = use(package, tmp_path / "checkpoint")
    assert found["layers"] == [[1, "model.layers.1.mlp.chooser", 2], [2, "model.layers.2.mlp.chooser", 2]]
    assert torch.equal(torch.tensor(found["counts"]), by_hand(model))
    assert torch.tensor(found["avoided"])[:, 0, 0].sum() == 0 < torch.tensor(found["counts"])[:, 0, 0].sum()
    assert found["moved"] == [True, True]
    with torch.no_grad():
        expected = model(input_ids=IDS, attention_mask=MASK).logits
    torch.testing.assert_close(torch.tensor(found["logits"]), expected, rtol=1e-5, atol=1e-6)

    with (package / "wander.py").open("a") as module:
        module.write("# another rule\n")
    assert use(package, tmp_path / "checkpoint")["fingerprint"] != found["fingerprint"]
