"""`inspect` reads a config and nothing else, and says in one line what it cannot serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import GptOssConfig, LlamaConfig, Mistral4Config, MixtralConfig, Qwen3MoeConfig, T5Config

from moe_safety.errors import InputError
from moe_safety.models.demo.build import demo_folder
from moe_safety.models.inspection.describe import describe
from moe_safety.models.inspection.inspect import inspect
from moe_safety.models.inspection.memory_forecast import Load
from tests.families import build


def folder(path: Path, config) -> str:
    if isinstance(config, str):
        (path / "config.json").write_text(config)
    elif isinstance(config, dict):
        (path / "config.json").write_text(json.dumps(config))
    else:
        config.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json: "),
        ([], "config.json: "),
        ({}, "model type None is unknown to transformers"),
        ({"model_type": "blickformer"}, "model type 'blickformer' is unknown to transformers"),
        (
            {"model_type": "blickformer", "auto_map": {"AutoConfig": "blick.BlickConfig"}},
            "needs Python code of its own to run, and model.trust_remote_code is off",
        ),
        ({"model_type": "olmoe", "num_experts": "many"}, "config.json: Validation error for field 'num_experts'"),
        ({"model_type": "olmoe", "num_experts": -1}, "config.json: "),
        ({"model_type": "qwen3_vl_moe"}, "transformers has no causal language model for qwen3_vl_moe"),
        ({"model_type": "dbrx"}, "dbrx keeps its experts in flat matrices"),
        (T5Config(), "an encoder-decoder model"),
        (LlamaConfig(), "has no mixture-of-experts layers"),
    ],
)
def test_what_cannot_be_inspected_is_one_line_that_names_the_folder(tmp_path, config, message):
    name = folder(tmp_path, json.dumps(config) if isinstance(config, list) else config)
    with pytest.raises(InputError) as caught:
        inspect(name)
    line = str(caught.value)
    assert message in line
    assert line.startswith(name)
    assert "\n" not in line


def test_a_folder_without_config(tmp_path):
    with pytest.raises(InputError, match="no config"):
        inspect(str(tmp_path))


def test_names_that_are_nowhere():
    names = ["./no/such/folder", "no-such-org/no-such-model", "a/b/c"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}  # read once, when the hub's library is imported
    run = subprocess.run([sys.executable, "-c", _INSPECT_ALL, *names], env=offline, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "./no/such/folder: not a folder, and not found on the hub or in its cache",
        "no-such-org/no-such-model, model.name: is no folder and not in the hub's cache, and the hub cannot be reached",
        "a/b/c: not a folder, and not found on the hub or in its cache",
    ]


_INSPECT_ALL = """
import sys
from moe_safety.errors import InputError
from moe_safety.models.inspection.inspect import inspect
for name in sys.argv[1:]:
    try:
        inspect(name)
    except InputError as error:
        print(error)
"""


def test_a_large_model_takes_seconds_and_no_weights(tmp_path):
    config = Qwen3MoeConfig(num_hidden_layers=48, num_experts=128, dtype="bfloat16")
    begin = time.monotonic()
    inspection = inspect(folder(tmp_path, config))
    assert time.monotonic() - begin < 20
    assert inspection.sizes.parameters > 30e9
    assert inspection.layout.shape == (48, 128)


def test_a_saved_model_is_read_like_the_model_itself(tmp_path):
    model = build("deepseek_v3")
    model.save_pretrained(tmp_path)
    inspection = inspect(str(tmp_path), chosen=3)
    sizes = inspection.sizes
    assert sizes.parameters == sum(parameter.numel() for parameter in model.parameters())
    experts = sum(
        p.numel() for path, p in model.named_parameters() if path.endswith(("gate_up_proj", "experts.down_proj"))
    )
    assert sizes.expert_parameters == experts
    assert sizes.parameters_per_expert == 3 * 16 * 32
    idle = sum((layer.num_experts - layer.top_k) * 3 * 16 * 32 for layer in inspection.layout.layers)
    assert sizes.active_parameters == sizes.parameters - idle
    assert (inspection.dtype, inspection.load) == ("float32", Load(chosen=3, dtype_bytes=4))


def test_json_is_plain_and_complete(tmp_path):
    data = inspect(folder(tmp_path, MixtralConfig(dtype="bfloat16"))).to_dict()
    assert json.loads(json.dumps(data)).keys() == data.keys()
    known = ["model", "architecture", "dtype", "layout", "sizes", "load"]
    assert list(data) == [*known, "forecast", "host_memory", "enough", "warnings"]
    assert {entry["task"] for entry in data["forecast"]} == {"capture", "selective", "full"}
    assert all(entry["total"] == sum(entry["parts"].values()) for entry in data["forecast"])


def test_a_quantised_config_is_read_as_the_model_it_stands_for(tmp_path):
    config = GptOssConfig(num_hidden_layers=2, quantization_config={"quant_method": "mxfp4"})
    layer = inspect(folder(tmp_path, config)).layout.layers[0]
    assert layer.has_bias
    assert layer.parameters["model.layers.0.mlp.experts.down_proj"] == (128, 2880, 2880)


def test_a_class_that_the_automatic_table_lacks(tmp_path):
    config = Mistral4Config(num_hidden_layers=2, architectures=["Mistral4ForCausalLM"])
    assert inspect(folder(tmp_path, config)).architecture == "Mistral4ForCausalLM"


@pytest.mark.parametrize("chosen", [0, 25])
def test_only_experts_that_exist_can_be_chosen(tmp_path, chosen):
    build("olmoe").save_pretrained(tmp_path)
    assert inspect(str(tmp_path)).load.chosen == 24
    with pytest.raises(InputError, match=f"of its 24 experts {chosen} cannot be chosen"):
        inspect(str(tmp_path), chosen=chosen)


def test_text_names_every_kind_of_layer_once(tmp_path):
    build("qwen2_moe").save_pretrained(tmp_path)
    text = describe(inspect(str(tmp_path), chosen=2))
    for line in (
        "decoder layers  3, hidden size 32",
        "MoE layers      2: 1-2",
        "dense layers    0",
        "experts         16",
        "layer 1-2       8 experts, top 2",
        "  router        model.layers.1.mlp.gate",
        "  experts       model.layers.1.mlp.experts.gate_up_proj [8, 32, 32]",
        "  shared        model.layers.1.mlp.shared_expert",
        "workers                      1         2         4         8",
    ):
        assert text.splitlines().count(line) == 1, line
    assert "model.layers.2" not in text


def test_what_a_run_would_refuse_is_said_before_it(tmp_path):
    build("olmoe").save_pretrained(tmp_path)
    assert any("chat template" in one or "tokenizer" in one for one in inspect(str(tmp_path)).warnings)
    config = GptOssConfig(num_hidden_layers=2, quantization_config={"quant_method": "gptq"})
    assert "`run` refuses it: is quantised by gptq; save it dequantised, and start from there" in (
        inspect(folder(tmp_path, config)).warnings
    )
    config = GptOssConfig(num_hidden_layers=2, quantization_config={"quant_method": "mxfp4"})
    assert any("mxfp4" in one and "refuses" not in one for one in inspect(folder(tmp_path, config)).warnings)
    assert inspect(str(demo_folder())).warnings == []


def test_cpu_memory_and_the_cards_that_are_enough(tmp_path):
    """Shapes of Qwen3-30B-A3B, of which docs/cluster.md says the same."""
    config = Qwen3MoeConfig(
        num_hidden_layers=48, num_experts=128, hidden_size=2048, moe_intermediate_size=768, dtype="bfloat16"
    )
    found = inspect(folder(tmp_path, config), chosen=100)
    capture, selective, full = found.host
    assert capture.without > 2 * found.sizes.parameters > capture.with_card
    assert capture.with_card < selective.with_card < full.with_card < full.without
    by_card = {one.card_gb: one for one in found.enough}
    assert by_card[141].selective.cards == 1
    assert by_card[141].capture.cards == 1
    assert by_card[24].capture.cards > 1
    assert by_card[80].selective.zero_stage == 3
    assert all(one.full is None or one.full.cards == 8 for one in found.enough)
    lines = describe(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("141 GB") for line in lines) == 1
