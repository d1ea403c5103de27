"""A judge's model and tokenizer, loaded once in a process, or an error of one line that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from moe_safety.config.judge import HubModel
from moe_safety.errors import InputError
from moe_safety.models.quiet import quiet


def load_judge(auto: type, section: HubModel, key: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, by transformers' class `auto`, in `eval()` on a GPU where there is one, and its tokenizer."""
    with blaming(section.model, key):
        return _load(auto, section.model, section.revision, section.dtype)


@contextmanager
def blaming(model: str, key: str) -> Iterator[None]:
    """Whatever keeps a judge from starting, the user gets one line."""
    try:
        yield
    except Exception as error:
        message = error.message if isinstance(error, InputError) else f"cannot be loaded: {_first_line(error)}"
        raise InputError(message, file=model, key=key) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@cache
def _load(auto: Any, name: str, revision: str | None, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model, found = auto.from_pretrained(
        name,
        revision=revision,
        dtype=dtype if dtype == "auto" else getattr(torch, dtype),
        device_map="cuda" if torch.cuda.is_available() else "cpu",
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    # transformers fills them with chance, and a head made of chance gives verdicts too.
    if missing := sorted(found["missing_keys"]):
        raise InputError(f"has no weights for {', '.join(missing[:3])}")
    return model.eval(), tokenizer
