"""Messages and answers as tokens: prompts are cut from the left, answers never, and padding stands on the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_safety.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """The prompt up to the place where the answer begins."""
    text = _render(tokenizer, messages, answer_follows=True)
    return tokenizer(text, add_special_tokens=False).input_ids


def answer_tokens(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """The answer span: the answer's tokens and the end-of-turn token."""
    return [*tokenizer(answer, add_special_tokens=False).input_ids, end_of_turn(tokenizer)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that the chat template writes after an answer; the end-of-text token where it writes none."""
    probe = "answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": probe}]
    _, _, rest = _render(tokenizer, turns, answer_follows=False).rpartition(probe)
    after = tokenizer(rest, add_special_tokens=False).input_ids
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    end = next((token for token in after if token in special), tokenizer.eos_token_id)
    if end is None:
        raise InputError("its tokenizer has no end-of-turn token", file=tokenizer.name_or_path)
    return int(end)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, answer_follows: bool) -> str:
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        raise InputError("its tokenizer has no chat template", file=tokenizer.name_or_path)
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=answer_follows)
    except TemplateError:
        # Some families have no system role: there its text opens the first user turn.
        if messages[0]["role"] != "system" or len(messages) < 2:
            raise
        first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        return _render(tokenizer, [first, *messages[2:]], answer_follows=answer_follows)


def prompt_and_answer(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, answer: str | None, max_length: int
) -> tuple[list[int], list[int]]:
    """Both as tokens, `max_length` together unless the answer alone is longer; no answer is no tokens."""
    answered = [] if answer is None else answer_tokens(tokenizer, answer)
    # A model needs one token to start from.
    return cut_left(prompt_tokens(tokenizer, messages), max(max_length - len(answered), 1)), answered


def cut_left(prompt: Sequence[int], room: int) -> list[int]:
    """The last `room` tokens of a prompt."""
    return list(prompt[-room:]) if room > 0 else []


@dataclass(frozen=True)
class Padded:
    """Rows of unequal length in one rectangle, padded on the left."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    @property
    def position_ids(self) -> torch.Tensor:
        """Positions counted from each row's first real token."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu") -> Padded:
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        start = width - len(row)
        ids[place, start:] = torch.as_tensor(row)
        mask[place, start:] = 1
    return Padded(ids.to(device), mask.to(device))


def pad_right(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> torch.Tensor:
    """Token ids in one rectangle. A causal model cannot see what stands behind a row's end, so that needs no mask."""
    import torch

    ids = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.as_tensor(row)
    return ids.to(device)
