"""Parameters that ZeRO-3 spreads over the workers: reading a model so, and making parameters whole for a while."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedModel

from moe_safety.config import ModelConfig
from moe_safety.models.io import flips_of, load_model, model_folder, skeleton_of
from moe_safety.models.io.own_parts import own_parts
from moe_safety.train.engines.deepspeed import compile_nothing
from moe_safety.train.world import World

_ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"
"""Tells transformers to read a tensor when it is its turn."""


def read_spread(
    given: ModelConfig, config: dict[str, Any], device: torch.device, only: torch.dtype | None = None
) -> PreTrainedModel:
    """The model, its parameters spread over the workers and the rest of it on this worker's device.

    Each worker reads what it keeps, and each parameter is spread as soon as a module takes it, so that the model is
    whole nowhere. Building it spread, which is DeepSpeed's way, gives all of it one type: also routers that a
    family keeps in float32 and, before transformers 5.23, the frequencies of rotary embeddings. Where all parameters
    train, DeepSpeed needs them in one type: the `only` one.
    """
    compile_nothing()
    world, skeleton, zero = World(), skeleton_of(given), config["zero_optimization"]
    # Whether the head is the embedding is seen by comparing the two, so these wait.
    embedding = skeleton.get_input_embeddings().weight.shape
    # DeepSpeed may be told to keep each part on several workers.
    once = zero.get("zero_hpz_partition_size", 1) == 1 and zero.get("mics_shard_size", -1) == -1
    init = _init(sends=not once)
    # Else tensors are read ahead, and all of them are if spreading is slower.
    before, os.environ[_ONE_BY_ONE] = os.environ.get(_ONE_BY_ONE), "1"
    try:
        with (
            register_module_parameter_registration_hook(_spreading(init, config, embedding, only)),
            own_parts(skeleton, model_folder(given), world.rank, world.size) if once else nullcontext(),
        ):
            model = load_model(given, partitioned=True)
    finally:
        del os.environ[_ONE_BY_ONE]
        os.environ |= {} if before is None else {_ONE_BY_ONE: before}
    init(module=model, config_dict_or_path=config)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    if given.delta:
        flips_of(given).flip(model, gathered)
    return model


def _init(*, sends: bool) -> Any:
    """DeepSpeed's spreading of parameters. Unless the first worker `sends` them to the others, each has to hold what it
    keeps of them."""
    import deepspeed

    class Init(deepspeed.zero.Init):
        def _zero_init_param(self, parameter: torch.nn.Parameter) -> None:
            self._convert_to_deepspeed_param(parameter)
            parameter.partition()  # type: ignore[attr-defined]

    return deepspeed.zero.Init if sends else Init


def _spreading(
    init: Any, config: dict[str, Any], later: torch.Size, only: torch.dtype | None
) -> Callable[[torch.nn.Module, str, torch.nn.Parameter | None], None]:
    """Spreads what modules take, but for parameters of that shape and for what does not come from the checkpoint, which
    workers would take in orders of their own."""
    first: list[Any] = []

    def spread(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if not getattr(parameter, "_is_hf_initialized", False) or hasattr(parameter, "ds_id"):
            return
        if parameter is None or parameter.is_meta or parameter.shape == later:
            return
        parameter.data = parameter.data.to(only or parameter.dtype)
        if first:
            first[0].convert_to_zero_parameters(param_list=[parameter])
            return
        first.append(parameter)
        holder = torch.nn.Module()
        holder._parameters["first"] = parameter
        init(module=holder, config_dict_or_path=config)

    return spread


def gathered(parameters: list[torch.nn.Parameter], /) -> AbstractContextManager[object]:
    """Makes parameters whole that ZeRO-3 has spread; what is changed inside is kept."""
    import deepspeed

    spread = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    return deepspeed.zero.GatheredParameters(spread, modifier_rank=0)
