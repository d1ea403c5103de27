"""Bases that are quantised on disk are loaded in full: full weights are what trains, and is saved and compared."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoQuantizationConfig

from moe_safety.errors import InputError

_DEQUANTISED = ("mxfp4", "fp8")
"""The forms that transformers can make full weights of while it reads them, on any device."""


def quantisation_of(config: PreTrainedConfig, name: object) -> str | None:
    """The form that the model in `name` is stored in; none where its weights stand there in full."""
    stored = getattr(config, "quantization_config", None)
    if not stored:
        return None
    method = str(dict(stored).get("quant_method"))
    if method not in _DEQUANTISED:
        raise InputError(f"is quantised by {method}; save it dequantised, and start from there", file=name)
    return method


def dequantising(config: PreTrainedConfig) -> dict[str, Any]:
    """What `from_pretrained` has to be told, or it would run on the small numbers wherever the device can."""
    stored: Any = config.quantization_config
    return {"quantization_config": AutoQuantizationConfig.from_dict({**stored, "dequantize": True})}


def as_if_stored_in_full(model: PreTrainedModel, dtype: torch.dtype | None) -> None:
    """Makes a model that was dequantised while it was read what it would be from full weights."""
    # Saving would undo what it was loaded by, quantisation included.
    model._weight_conversions = None
    for parameter in model.parameters() if dtype else ():
        # Not every form is dequantised in the type that was asked for.
        if parameter.dtype not in (dtype, torch.float32):
            parameter.data = parameter.data.to(dtype)
