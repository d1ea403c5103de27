"""A prompt and its answers as one row of a forward pass, and what the refusal margin takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from moe_safety.models.experts.refusal_margin import Tokens
from moe_safety.models.experts.selective import sent


@dataclass(frozen=True)
class Line:
    """A prompt with answers behind it in one row, each with its sign in the margin."""

    prompt: Tokens
    answers: Sequence[tuple[int, Tokens]]

    @property
    def tokens(self) -> list[int]:
        """The tokens of prompt and answers."""
        return [*self.prompt, *(token for _, answer in self.answers for token in answer)]

    @property
    def targets(self) -> list[int]:
        """The tokens of the answers."""
        return self.tokens[len(self.prompt) :]

    def predicting(self) -> list[int]:
        """Where each token of the answers is predicted: before it, or at the prompt's end."""
        places, start = [], len(self.prompt)
        for _, answer in self.answers:
            places += [len(self.prompt) - 1, *range(start, start + len(answer))][: len(answer)]
            start += len(answer)
        return places

    def shares(self) -> list[float]:
        """How much the log-probability of each of these tokens counts in the margin."""
        return [sign / len(answer) for sign, answer in self.answers for _ in answer]

    def inputs(self, device: torch.device, dtype: torch.dtype, multiple: int = 1) -> dict[str, torch.Tensor]:
        """What a model is given. Several answers all begin at the prompt's end, and are hidden from each other. Tokens
        that nobody sees fill the line up to a multiple of some length."""
        fill = [0] * (-len(self.tokens) % multiple)
        ids = {"input_ids": sent([*self.tokens, *fill], torch.long, device)[None]}
        if len(self.answers) == 1:
            return ids
        prompt = range(len(self.prompt))
        positions = [*prompt, *(len(prompt) + n for _, answer in self.answers for n in range(len(answer))), *fill]
        owners = [0 for _ in prompt] + [n for n, (_, answer) in enumerate(self.answers, start=1) for _ in answer]
        owner = sent([*owners, *(-1 for _ in fill)], torch.long, device)
        seen = ((owner[None] == 0) | (owner[None] == owner[:, None])).tril()
        mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
        return ids | {"position_ids": sent(positions, torch.long, device)[None], "attention_mask": mask[None, None]}
