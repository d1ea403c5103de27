"""A model built from its config alone: on the meta device, no weights read, no memory taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from moe_safety.errors import InputError
from moe_safety.models.families import declared
from moe_safety.models.io.fingerprint import check_reachable


def build_skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model in folder or hub repository `name`, without its weights."""
    config = read_config(name, revision=revision, trust_remote_code=trust_remote_code)
    if config.is_encoder_decoder:
        raise InputError("an encoder-decoder model; only causal language models are served", file=name)
    loader = loader_of(config, name, trust_remote_code)
    with _blame_config(name), torch.device("meta"):
        if loader is AutoModelForCausalLM:
            return loader.from_config(config, trust_remote_code=trust_remote_code)
        return loader(config)


def loader_of(config: PreTrainedConfig, name: str, trust_remote_code: bool) -> Any:
    """The class whose `from_pretrained` loads such a model."""
    if trust_remote_code or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    # A few classes (mistral4's) are missing in that table.
    for architecture in config.architectures or ():
        if architecture.endswith("ForCausalLM") and hasattr(transformers, architecture):
            return getattr(transformers, architecture)
    raise InputError(f"transformers has no causal language model for {config.model_type}", file=name)


def read_config(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The config of folder or hub repository `name`."""
    check_reachable(name, revision)
    with _blame_config(name):
        data, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
        kind = data.get("model_type")
        # A family of another package may make itself known to transformers here.
        if told := declared(str(kind)).refusal:
            raise InputError(told, file=name)
        if kind not in CONFIG_MAPPING and "auto_map" not in data:
            raise InputError(f"model type {kind!r} is unknown to transformers {transformers.__version__}", file=name)
        if kind not in CONFIG_MAPPING and not trust_remote_code:
            raise InputError("needs Python code of its own to run, and model.trust_remote_code is off", file=name)
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


@contextmanager
def _blame_config(name: str) -> Iterator[None]:
    """A wrong config can make transformers fail in any way; whichever it is, the user gets one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not Path(name).exists():
            raise InputError("not a folder, and not found on the hub or in its cache", file=name) from error
        raise InputError(f"config.json: {' '.join(str(error).split())}", file=name) from error
