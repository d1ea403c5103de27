"""Loads a model or its tokenizer, or says in one line why it cannot.

A stage whose work is done asks for the model's fingerprint alone, so torch and transformers come with what loads.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_safety.config import ModelConfig
from moe_safety.errors import InputError, first_line
from moe_safety.models.io.fingerprint import fingerprint, local_folder
from moe_safety.models.layout import MoELayout, inspect_model
from moe_safety.rundir import cache_folder, fetched, fetched_file, file_digest, spent

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from moe_safety.models.io.swap import Flips
    from moe_safety.models.text.chat import Chat


def model_path(model: ModelConfig) -> str:
    """The folder or hub id to load; `demo` is built, and a URI fetched, first where it is missing."""
    if model.name == "demo":
        from moe_safety.models.demo.build import demo_folder

        return str(demo_folder())
    if "://" in model.name:
        return str(fetched(model.name, cache_folder() / "models"))
    return model.name


def model_folder(model: ModelConfig) -> Path:
    """The folder that holds the model's files."""
    return local_folder(model_path(model), model.revision)


def delta_file(model: ModelConfig) -> Path | None:
    """The file of what training changed of it, if that is how it is given; fetched first where it is a URI."""
    return fetched_file(model.delta, cache_folder() / "models") if model.delta else None


def load_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the left."""
    from transformers import AutoTokenizer

    from moe_safety.models.library_logging import quiet

    quiet()
    tokenizer = _load(AutoTokenizer, model, padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: ModelConfig, gpus: int | None = None, *, partitioned: bool = False) -> PreTrainedModel:
    """The model in `eval()`, running its experts through this program's function and its norms fused.

    On one GPU where there is one, spread over `gpus` where it takes more, else on the CPU. `partitioned` is for ZeRO-3,
    which takes every parameter away while the model is read, and takes a delta in when that is done.
    """
    import torch

    from moe_safety.models.experts import use_our_experts
    from moe_safety.models.io.quantised import as_if_stored_in_full, dequantising, quantisation_of
    from moe_safety.models.io.skeleton import loader_of, read_config
    from moe_safety.models.kernels.fuse import fuse

    check_loadable(model)
    dtype: Any = model.dtype if model.dtype == "auto" else getattr(torch, model.dtype)
    device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    config = read_config(model_path(model), revision=model.revision, trust_remote_code=model.trust_remote_code)
    loader = loader_of(config, model.name, model.trust_remote_code)
    place = "cpu" if partitioned else "auto" if (gpus or 1) > 1 else device
    quantised = quantisation_of(config, model.name)
    if quantised and partitioned:
        raise InputError(
            f"is quantised by {quantised}, which ZeRO-3 cannot spread; save it dequantised", file=model.name
        )
    # Other weights than safetensors are pickles.
    options = {"use_safetensors": True, **(dequantising(config) if quantised else {})}
    with spent("weights"):
        loaded, info = _load(loader, model, dtype=dtype, device_map=place, output_loading_info=True, **options)
    if missing := sorted(info["missing_keys"]):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise InputError(f"has no weights for {missing[0]}{more}", file=model.name, key="model.name")
    if quantised:
        as_if_stored_in_full(loaded, None if dtype == "auto" else dtype)
    if model.delta and not partitioned:
        flips_of(model).flip(loaded)
    return fuse(use_our_experts(loaded)).eval()


def flips_of(model: ModelConfig) -> Flips:
    """What its delta changes of the model that is loaded without it."""
    from moe_safety.models.io.swap import Flips

    file = delta_file(model)
    assert file is not None
    return Flips.read(model_folder(model), file, trust_remote_code=model.trust_remote_code)


def check_loadable(model: ModelConfig) -> MoELayout:
    """The model's layout from its config alone: fails early, before any weight is read, where it cannot be served."""
    from moe_safety.models.io.quantised import quantisation_of

    skeleton = skeleton_of(model)
    quantisation_of(skeleton.config, model.name)
    return inspect_model(skeleton)


def dtype_of(model: ModelConfig) -> torch.dtype:
    """The type that the model's weights are loaded in."""
    import torch

    from moe_safety.models.io.skeleton import read_config

    if model.dtype != "auto":
        return getattr(torch, model.dtype)
    config = read_config(model_path(model), revision=model.revision, trust_remote_code=model.trust_remote_code)
    return config.dtype or torch.float32


def window_of(model: ModelConfig) -> int | None:
    """The most tokens that the model takes; nothing where its configuration sets no limit."""
    from moe_safety.models.io.skeleton import read_config

    config = read_config(model_path(model), revision=model.revision, trust_remote_code=model.trust_remote_code)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_chat(model: ModelConfig) -> Chat:
    """The tokenizer with its chat template, as the configuration sets it."""
    from moe_safety.models.text.chat import Chat

    return Chat(load_tokenizer(model), model.chat_template_kwargs)


def skeleton_of(model: ModelConfig) -> PreTrainedModel:
    """The model without its weights."""
    from moe_safety.models.io.skeleton import build_skeleton
    from moe_safety.models.library_logging import quiet

    quiet()
    return build_skeleton(model_path(model), revision=model.revision, trust_remote_code=model.trust_remote_code)


def _load(auto: Any, model: ModelConfig, **options: Any) -> Any:
    from safetensors import SafetensorError

    options |= {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
    try:
        return auto.from_pretrained(model_path(model), **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = first_line(error)
        raise InputError(f"cannot be loaded: {first}", file=model.name, key="model.name") from None
    except RuntimeError as error:
        # It tells of shapes in a table of its own; a fused tensor has another shape where one expert is missing.
        if "ignore_mismatched_sizes" not in str(error):
            raise
        told = "lacks experts, or its tensors have other shapes than its configuration says"
        raise InputError(told, file=model.name, key="model.name") from None


def model_fingerprint(model: ModelConfig) -> str:
    """A hash of weights, configuration and tokenizer: tables made with one model are not taken for another's."""
    found, delta = fingerprint(model_path(model), model.revision), delta_file(model)
    return hashlib.sha256(f"{found} {file_digest(delta)}".encode()).hexdigest() if delta else found
