"""A judge whose model runs here: loaded once in a process, or an error of one line that says why not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from moe_safety.config import Place, Section
from moe_safety.errors import InputError, first_line
from moe_safety.judges.local.tokens import Encoder
from moe_safety.judges.verdict import TOO_LONG, Exchange, Judge, Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HubModel(Section):
    """A judge's model."""

    model: Place
    """A folder or a hub id, with weights in safetensors and no Python code of its own."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The type weights are loaded in; `auto` keeps the checkpoint's own."""
    max_length: int = Field(4096, ge=16)
    """Longest question in tokens, its reply included, or what its tokenizer allows if that is less. Nothing is cut: an
    answer whose question is longer is unparsed, and their number is said."""
    batch_size: int = Field(8, ge=1)
    """Answers judged in one forward pass."""


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


def load_judge(auto: str, section: HubModel, key: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, by transformers' class `auto`, in `eval()` on a GPU where there is one, and its tokenizer."""
    from moe_safety.jobs import free_cards

    free_cards()
    with blaming(section.model, f"{key}.model"):
        return _load(auto, section.model, section.revision, section.dtype)


def model_hash(section: HubModel, key: str) -> str:
    """The fingerprint of the model, which is fetched if it is not there."""
    from moe_safety.models.io import fingerprint

    with blaming(section.model, f"{key}.model"):
        return fingerprint(section.model, section.revision)


@contextmanager
def blaming(model: str, key: str) -> Iterator[None]:
    """Whatever keeps a judge from starting, the user gets one line."""
    try:
        yield
    except Exception as error:
        message = error.message if isinstance(error, InputError) else f"cannot be loaded: {first_line(error)}"
        raise InputError(message, file=model, key=key) from error


@cache
def _load(auto: str, name: str, revision: str | None, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    import transformers

    from moe_safety.models.library_logging import quiet

    quiet()
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model, found = getattr(transformers, auto).from_pretrained(
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
