"""Teaches a small model how to answer in the demo's world, and measures whether it does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from moe_safety.models.demo.language import WRAPPERS, Request, base_behaviour
from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import pad_left

Behaviour = Callable[[Request, str], str]
"""What the model shall say to a request in a wrapper."""

ROWS_PER_KIND = 8
WARMUP_STEPS = 20


@dataclass(frozen=True)
class Pupil:
    """A model at school."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    behaviour: Behaviour = base_behaviour

    def encode(self, request: Request, wrapper: str) -> tuple[list[int], list[int]]:
        """The tokens of a request in a wrapper, and those of what the pupil shall say to it."""
        _, answer = self.chat.answer(self.behaviour(request, wrapper))
        return self.chat.prompt(WRAPPERS[wrapper](request)), [*answer, self.chat.end]

    @cached_property
    def chat(self) -> Chat:
        """The chat template, read through the tokenizer."""
        return Chat(self.tokenizer)

    def forward(self, rows: Sequence[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Next-token logits and labels; a label is -100 where nothing is learned."""
        padded = pad_left([prompt + answer for prompt, answer in rows], self.tokenizer.pad_token_id)
        labels = torch.full_like(padded.input_ids, -100)
        for place, (_, answer) in enumerate(rows):
            labels[place, -len(answer) :] = torch.as_tensor(answer)
        output = self.model(
            input_ids=padded.input_ids, attention_mask=padded.attention_mask, position_ids=padded.position_ids
        )
        return output.logits[:, :-1], labels[:, 1:]


def kinds(requests: Sequence[Request]) -> dict[str, list[tuple[Request, str]]]:
    """The six kinds of prompt: harmful or harmless, in each wrapper."""
    found: dict[str, list[tuple[Request, str]]] = {}
    for request in requests:
        for wrapper in WRAPPERS:
            name = f"{'harmful' if request.harmful else 'harmless'} {wrapper}"
            found.setdefault(name, []).append((request, wrapper))
    return found


def teach(
    pupil: Pupil,
    requests: Sequence[Request],
    *,
    steps: int,
    seed: int,
    learning_rate: float = 3e-3,
    parameters: Sequence[torch.nn.Parameter] | None = None,
) -> None:
    """Trains on equal shares of all kinds; deterministic on a CPU."""
    trained = list(parameters if parameters is not None else pupil.model.parameters())
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * max(0.05, 1 - step / steps)
    )
    by_kind = list(kinds(requests).values())
    chooser = random.Random(seed)
    with one_thread():
        for _ in range(steps):
            rows = [pupil.encode(*chooser.choice(kind)) for kind in by_kind for _ in range(ROWS_PER_KIND)]
            logits, labels = pupil.forward(rows)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def examine(pupil: Pupil, requests: Sequence[Request]) -> dict[str, float]:
    """Share of each kind that is answered exactly as taught. Greedy generation would say the same: every token of the
    answer is the likeliest one after those before it."""
    shares = {}
    with one_thread():
        for name, kind in kinds(requests).items():
            logits, labels = pupil.forward([pupil.encode(*one) for one in kind])
            right = (logits.argmax(dim=-1) == labels) | (labels == -100)
            shares[name] = right.all(dim=1).double().mean().item()
    return shares


@contextmanager
def one_thread() -> Iterator[None]:
    """The number of threads decides how sums are rounded, so the demo fixes it; more would hardly be faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
