"""What a `run` would refuse, or do otherwise than somebody might think, found before it."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedConfig

from moe_safety.config import ModelConfig
from moe_safety.errors import InputError


def warnings_of(model: ModelConfig, config: PreTrainedConfig) -> Iterator[str]:
    """A line for each."""
    from moe_safety.models.io.load import load_chat
    from moe_safety.models.io.quantised import quantisation_of

    try:
        if method := quantisation_of(config, model.name):
            yield f"its weights are quantised ({method}): it is read, trained and saved with full ones"
    except InputError as error:
        yield f"`run` refuses it: {error.message}"
    try:
        chat = load_chat(model)
        chat.prompt([{"role": "user", "content": "a"}])
        _ = chat.end
    except InputError as error:
        yield f"`run` refuses it: {error.message}"
