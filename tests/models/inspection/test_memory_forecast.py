"""The forecast against what was measured on an H200, and the arithmetic of sharding."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, MixtralConfig, OlmoeConfig, Qwen3MoeConfig

from moe_safety.models import inspect_model
from moe_safety.models.inspection.memory_forecast import Load, capture_memory, forecast, training_memory
from moe_safety.models.inspection.sizes import Sizes, measure

SHAPES = {
    "olmoe-1b-7b": OlmoeConfig(intermediate_size=1024),
    "qwen3-30b-a3b": Qwen3MoeConfig(
        hidden_size=2048,
        num_hidden_layers=48,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=151936,
    ),
    "mixtral-8x7b": MixtralConfig(),
}


@cache
def sizes_of(name: str) -> Sizes:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHAPES[name])
    return measure(model, inspect_model(model))


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [("olmoe-1b-7b", 6.9, 1.3), ("qwen3-30b-a3b", 30.5, 3.3), ("mixtral-8x7b", 46.7, 12.9)],
)
def test_shapes_are_the_published_ones(name, billions, active):
    assert sizes_of(name).parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert sizes_of(name).active_parameters / 1e9 == pytest.approx(active, rel=0.02)


# Gigabytes measured on one H200 (docs/performance.md), 16 x 256 tokens, float32 masters; 5 % of experts chosen.
@pytest.mark.parametrize(
    ("name", "task", "load", "measured"),
    [
        ("olmoe-1b-7b", "selective", Load(chosen=51), 26.1),
        ("olmoe-1b-7b", "full", Load(), 111.9),
        ("qwen3-30b-a3b", "selective", Load(chosen=307), 106.2),
        ("qwen3-30b-a3b", "selective", Load(chosen=100), 87.0),
    ],
)
def test_forecast_is_near_what_was_measured(name, task, load, measured):
    predicted = training_memory(sizes_of(name), load, task, stage=0, workers=1)
    assert predicted.total / 1e9 == pytest.approx(measured, rel=0.15)


def test_the_forecast_of_zero_2_is_near_what_two_cards_held():
    predicted = training_memory(sizes_of("qwen3-30b-a3b"), Load(chosen=100), "selective", stage=2, workers=2)
    assert predicted.total / 1e9 == pytest.approx(83.8, rel=0.15)


def test_capture_holds_the_weights_and_little_more():
    sizes = sizes_of("mixtral-8x7b")
    capture = capture_memory(sizes, Load())
    assert capture.parts["weights"] == 2 * sizes.parameters
    # One layer of Mixtral: 4,096 tokens, two experts each, of inner width 14,336.
    assert capture.parts["buffers"] > 4096 * 2 * 4 * 14336 * 2
    assert capture.parts["buffers"] < 0.1 * capture.parts["weights"]


def test_every_stage_and_number_of_workers_is_forecast():
    entries = forecast(sizes_of("olmoe-1b-7b"))
    assert entries[0].task == "capture"
    assert [(e.task, e.stage, e.workers) for e in entries[1:]] == [
        (task, stage, workers) for task in ("selective", "full") for stage in range(4) for workers in (1, 2, 4, 8)
    ]


@pytest.mark.parametrize(
    ("stage", "shared"),
    [
        (0, set()),
        (1, {"moments", "float32 masters"}),
        (2, {"moments", "float32 masters", "gradients"}),
        (3, {"moments", "float32 masters", "gradients", "weights"}),
    ],
)
@pytest.mark.parametrize("task", ["selective", "full"])
def test_zero_divides_what_its_stage_divides(task, stage, shared):
    sizes = sizes_of("olmoe-1b-7b")
    alone, four = (training_memory(sizes, Load(), task, stage, workers).parts for workers in (1, 4))
    divided = {name for name in alone if alone[name] and four[name] == alone[name] // 4}
    assert divided == shared
    assert bool(four["gathered layer"]) == (stage == 3)


def test_backward_stops_at_the_lowest_chosen_layer():
    sizes = sizes_of("olmoe-1b-7b")
    kept = [
        training_memory(sizes, Load(lowest_layer=lowest), "selective", 0, 1).parts["activations"] for lowest in (0, 8)
    ]
    assert kept[1] * 2 == kept[0]
    assert training_memory(sizes, Load(lowest_layer=8), "full", 0, 1) == training_memory(sizes, Load(), "full", 0, 1)


def test_float32_weights_need_no_masters():
    parts = training_memory(sizes_of("olmoe-1b-7b"), Load(dtype_bytes=4), "full", 0, 1).parts
    assert parts["float32 masters"] == 0
    assert parts["gradients"] == parts["weights"]


@given(
    chosen=st.integers(1, 500),
    tokens=st.integers(1, 1 << 16),
    checkpointing=st.booleans(),
    stage=st.integers(0, 3),
    workers=st.integers(1, 64),
)
def test_more_of_anything_never_takes_less(chosen, tokens, checkpointing, stage, workers):
    sizes = sizes_of("olmoe-1b-7b")

    def total(chosen=chosen, tokens=tokens, checkpointing=checkpointing, stage=stage):
        load = Load(chosen=chosen, tokens=tokens, checkpointing=checkpointing)
        return training_memory(sizes, load, "selective", stage, workers).total

    assert total() < total(chosen=chosen + 1)
    assert total() < total(tokens=tokens + 1)
    assert total(checkpointing=True) < total(checkpointing=False)
    assert total(stage=min(stage, 2)) <= total(stage=0)
