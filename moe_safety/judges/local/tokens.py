"""What a judge reads, as tokens. Quoted text never turns into the tokens that tell a model who is speaking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moe_safety.errors import InputError
from moe_safety.judges.asking.quoting import Segment, Template
from moe_safety.judges.verdict import Exchange

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LEAST_ROOM = 8


class Encoder:
    """Encodes exchanges in a template, whole: what is longer than `max_length` is for nobody to judge."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        max_length: int,
        *,
        before: Sequence[int] = (),
        after: Sequence[int] = (),
    ) -> None:
        self.tokenizer, self.template, self.max_length = tokenizer, template, max_length
        self.before, self.after = list(before), list(after)
        self.control = control_tokens(tokenizer)
        used = sum(len(row) for row in self._encode(template.fill(Exchange("", "", ""))))
        if used + _LEAST_ROOM > max_length:
            raise InputError(f"its template takes {used} of {max_length} tokens, which leaves no room for an answer")

    def __call__(self, exchange: Exchange) -> list[int]:
        """The tokens of the whole."""
        return [token for row in self._encode(self.template.fill(exchange)) for token in row]

    def _encode(self, segments: Sequence[Segment]) -> list[list[int]]:
        rows = [self._encode_quoted(one.text) if one.quoted else self._encode_own(one.text) for one in segments]
        return [[*self.before, *rows[0]], *rows[1:-1], [*rows[-1], *self.after]]

    def _encode_own(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _encode_quoted(self, text: str) -> list[int]:
        tokens = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        # Some tokenizers split only a part of them.
        return [token for token in tokens if token not in self.control]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every token that stands beside the tokenizer's own vocabulary, less the unknown word and plain spaces."""
    added = {token for token, content in tokenizer.added_tokens_decoder.items() if not content.content.isspace()}
    return (added | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and after any text."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    whole = tokenizer("a").input_ids
    start = next((place for place in range(len(whole)) if whole[place : place + len(bare)] == bare), len(whole))
    return whole[:start], whole[start + len(bare) :]
