"""A base that is quantised on disk: trained, saved and compared as the full weights that are loaded from it."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers.quantizers.auto import AutoHfQuantizer

from moe_safety.checkpoints import revert_delta, verify
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.demo import demo_folder
from moe_safety.models.io import check_loadable, load_model, model_folder
from moe_safety.models.io.quantised import dequantising
from moe_safety.models.io.skeleton import read_config
from moe_safety.rundir import RunDir
from moe_safety.train.train import train
from tests.checkpoints.pairs import rewrite
from tests.quantised import KINDS, change_config, save_quantised
from tests.train.byhand import configured


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    """With the demo's tokenizer."""
    folder = save_quantised(request.param, tmp_path / "base", vocab_size=128)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (demo_folder() / name).exists():
            shutil.copy(demo_folder() / name, folder)
    return folder


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_it_is_trained_and_saved_in_full(base, tmp_path, dtype):
    experts = [(0, 1), (1, 0), (1, 3)]
    flags = ["train.num_rounds=2", "train.router.enabled=true", "train.router.lr=1e-2"]
    config = configured(tmp_path / "run", experts, f"model.name={base}", f"model.dtype={dtype}", *flags)
    train(config)
    run, arm = RunDir(config.run_dir), "train/selective-routing+router"
    final = run.path(f"{arm}/final_model")
    full = torch.bfloat16 if dtype == "auto" else torch.float32
    assert {tensor.dtype for tensor in load_file(f"{final}/model.safetensors").values()} == {full}
    assert "quantization_config" not in (model_folder(ModelConfig(name=final)) / "config.json").read_text()
    assert run.exists(f"{arm}/delta.safetensors") == (dtype == "auto")
    model = load_model(ModelConfig(name=final))
    assert model.dtype == full
    if dtype == "float32":
        return
    report = verify(base, final, experts, True)
    assert (report.violations, report.experts, report.routers) == ([], experts, [0, 1])
    assert report.parameters == run.read_json(f"{arm}/training_metadata.json")["total_params"]
    # Between its own full weights and the tuned ones the delta leads both ways.
    revert_delta(final, run.path(f"{arm}/delta.safetensors"), tmp_path / "full")
    before = load_model(ModelConfig(name=str(base))).state_dict()
    again = load_model(ModelConfig(name=str(tmp_path / "full"))).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.items())


def test_full_weights_are_asked_for_also_where_the_device_could_do_without(base):
    """On a GPU transformers would keep the small numbers, and train nothing."""
    config = read_config(str(base))
    merged = AutoHfQuantizer.merge_quantization_configs(
        config.quantization_config, dequantising(config)["quantization_config"]
    )
    assert merged.dequantize
    assert merged.modules_to_not_convert == config.quantization_config.get("modules_to_not_convert")


def test_what_cannot_be_dequantised_is_refused(base):
    with pytest.raises(InputError, match=r"base: is quantised by (mxfp4|fp8), which ZeRO-3 cannot spread"):
        load_model(ModelConfig(name=str(base)), partitioned=True)
    change_config(base, quantization_config={"quant_method": "gptq"})
    for refuse in (check_loadable, load_model):
        with pytest.raises(InputError, match="base: is quantised by gptq; save it dequantised"):
            refuse(ModelConfig(name=str(base)))


def test_a_form_that_nothing_could_be_compared_with_is_refused_before_training(tmp_path):
    base = save_quantised("fp8", tmp_path / "base", vocab_size=128)
    name = "model.layers.0.self_attn.q_proj.weight"
    rewrite(base, name, lambda tensor: tensor.float().to(torch.float8_e5m2))
    config = configured(tmp_path / "run", [(0, 1)], f"model.name={base}")
    with pytest.raises(InputError, match=f"base: holds {name}_scale_inv in a form that is not dequantised here"):
        train(config)
    assert RunDir(config.run_dir).files("train/selective-routing/round_1") == []
