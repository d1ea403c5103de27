"""A base that is quantised on disk is compared as transformers loads it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from moe_safety.checkpoints import apply_delta, extract_delta, revert_delta, verify
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.models.stored import CHUNK
from tests.checkpoints.pairs import flip, flip_one_bit, stored
from tests.quantised import KINDS, change_config, save_quantised


@pytest.fixture(params=KINDS)
def pair(request, tmp_path):
    """A quantised base, and what was loaded from it and tuned, saved in full."""
    base, tuned = save_quantised(request.param, tmp_path / "base"), tmp_path / "tuned"
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    assert model.model.layers[0].mlp.experts.down_proj.dtype == torch.bfloat16
    for path in inspect_model(model).layers[1].parameters:
        flip(model.get_parameter(path)[2])
    # What it was loaded by would be undone in saving, quantisation included.
    model._weight_conversions = None
    model.save_pretrained(tuned)
    return base, tuned


@pytest.mark.parametrize("chunk", [CHUNK, 1 << 8])
def test_only_what_was_tuned_differs(pair, chunk, monkeypatch):
    for module in ("models.stored.checkpoint", "models.stored.patched"):
        monkeypatch.setattr(f"moe_safety.{module}.CHUNK", chunk)
    base, tuned = pair
    report = verify(base, tuned, [(1, 2)])
    assert (report.violations, report.experts) == ([], [(1, 2)])
    assert report.parameters == sum(tensor.numel() for tensor in stored(tuned).values())
    name = next(name for name in stored(tuned) if "layers.0.mlp.experts" in name and "down_proj" in name)
    flip_one_bit(tuned, name)
    assert [violation.tensor for violation in verify(base, tuned, [(1, 2)]).violations] == [name]


def test_a_delta_leads_back_to_the_dequantised_base(pair, tmp_path):
    base, tuned = pair
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    revert_delta(tuned, tmp_path / "delta.safetensors", tmp_path / "full")
    assert verify(base, tmp_path / "full", []).changed == 0
    apply_delta(tmp_path / "full", tmp_path / "delta.safetensors", tmp_path / "again")
    assert verify(tuned, tmp_path / "again", []).changed == 0
    with pytest.raises(InputError, match=r"base: is not the checkpoint .* it is quantised"):
        apply_delta(base, tmp_path / "delta.safetensors", tmp_path / "out")


def test_other_quantisation_is_refused(pair):
    base, tuned = pair
    change_config(base, quantization_config={"quant_method": "gptq"})
    with pytest.raises(InputError, match="base: is quantised by gptq; save it dequantised"):
        verify(base, tuned, [])
