"""A judge whose model runs here: loaded once in a process, or an error of one line that says why not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from moe_safety.config.judge import HubModel
from moe_safety.errors import InputError
from moe_safety.judges.tokens import Encoder
from moe_safety.judges.verdict import TOO_LONG, Exchange, Judge, Verdict
from moe_safety.models.quiet import quiet


class HubJudge(Judge):
    """Judges what it can see whole, a few questions at a time."""

    encoder: Encoder
    batch_size: int

    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        rows, longest = [self.encoder(exchange) for exchange in exchanges], self.encoder.max_length
        found = {
            place: Verdict("unparsed", f"{TOO_LONG}: {len(row)} tokens, and {longest} fit")
            for place, row in enumerate(rows)
            if len(row) > longest
        }
        # Rows of like length go together, so that little is padded.
        order = sorted(set(range(len(rows))) - set(found), key=lambda place: (len(rows[place]), place))
        for start in range(0, len(order), self.batch_size):
            group = order[start : start + self.batch_size]
            found |= dict(zip(group, self._judge([rows[place] for place in group]), strict=True))
        return [found[place] for place in range(len(rows))]

    @abstractmethod
    def _judge(self, rows: list[list[int]]) -> list[Verdict]:
        """What it says of a few questions."""


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
