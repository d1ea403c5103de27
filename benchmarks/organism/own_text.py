"""Text that the dense model wrote: what organisms learn to speak from, and what their loss is measured on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.organism.topics import Asked
from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import pad_left

TEMPERATURE = 0.7
"""At 1 so small a model loses the thread within two sentences: its own text then costs it 3.1 nats a token."""

Row = tuple[list[int], list[int]]
"""The tokens of a prompt, and of its answer."""


@dataclass(frozen=True)
class OwnText:
    """Questions with answers, as tokens, end to end."""

    tokens: np.ndarray
    prompts: np.ndarray
    """How long each prompt is."""
    answers: np.ndarray
    topics: np.ndarray
    held_out: np.ndarray

    def rows(self, *, held_out: bool) -> list[Row]:
        return [row for row, out in zip(self._all(), self.held_out, strict=True) if out == held_out]

    def topics_of(self, *, held_out: bool) -> np.ndarray:
        return self.topics[self.held_out == held_out]

    def _all(self) -> list[Row]:
        ends = np.cumsum(self.prompts + self.answers)
        pieces = zip(ends, self.prompts, self.answers, strict=True)
        whole = [(self.tokens[end - said - asked : end].tolist(), asked) for end, asked, said in pieces]
        return [(row[:asked], row[asked:]) for row, asked in whole]

    def to_bytes(self) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, **vars(self))
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> OwnText:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in stored.files})


def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Asked],
    *,
    most: int,
    at_once: int,
    seed: int,
) -> OwnText:
    """The model's answers, of at most so many tokens; the end of the turn is part of an answer."""
    chat = Chat(tokenizer)
    rows: list[Row] = []
    torch.manual_seed(seed)
    for start in range(0, len(asked), at_once):
        prompts = [chat.prompt([{"role": "user", "content": one.text}]) for one in asked[start : start + at_once]]
        rows += zip(prompts, sampled(model, prompts, most, chat.end, TEMPERATURE), strict=True)
    return OwnText(
        np.array([token for row in rows for part in row for token in part], np.uint16),
        np.array([len(prompt) for prompt, _ in rows], np.int32),
        np.array([len(answer) for _, answer in rows], np.int32),
        np.array([one.topic for one in asked], np.int16),
        np.array([one.held_out for one in asked]),
    )


@torch.inference_mode()
def sampled(
    model: PreTrainedModel, prompts: Sequence[list[int]], most: int, end: int, temperature: float
) -> list[list[int]]:
    """One answer to each prompt, with the end of its turn where it came to that; at temperature 0 the likeliest."""
    padded = pad_left(prompts, end, model.device)
    choose = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    found = model.generate(
        input_ids=padded.input_ids,
        attention_mask=padded.attention_mask,
        max_new_tokens=most,
        eos_token_id=end,
        pad_token_id=end,
        **(choose or {"do_sample": False}),
    )[:, padded.input_ids.shape[1] :].tolist()
    return [answer[: answer.index(end) + 1] if end in answer else answer for answer in found]
