"""A model is read whole or not at all."""

import re

import pytest
from safetensors.torch import load_file, save_file

from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.io import load_model
from tests.families import build


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    """transformers would fill them by chance and only warn."""
    build("olmoe").save_pretrained(tmp_path)
    load_model(ModelConfig(name=str(tmp_path)))
    kept = load_file(tmp_path / "model.safetensors")
    lost = sorted(name for name in kept if ".1.self_attn.q_" in name)
    save_file({name: kept[name] for name in set(kept) - set(lost)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"has no weights for {re.escape(lost[0])} and 1 more$"):
        load_model(ModelConfig(name=str(tmp_path)))


def test_a_checkpoint_that_lacks_an_expert_is_refused(tmp_path):
    build("olmoe").save_pretrained(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    lost = {name for name in kept if "layers.1.mlp.experts.2." in name}
    assert lost
    save_file({name: kept[name] for name in set(kept) - lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks experts, or its tensors have other shapes") as error:
        load_model(ModelConfig(name=str(tmp_path)))
    assert "\n" not in str(error.value)
