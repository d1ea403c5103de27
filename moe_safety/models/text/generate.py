"""Answers to prompts. An answer depends on its prompt, temperature and seed, not on what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import Answer, Limits, pad_left
from moe_safety.models.text.noise import exponential_noise, seed_words
from moe_safety.models.text.spoken import Rules, Spoken


class Generator:
    """A model that answers."""

    def __init__(self, model: PreTrainedModel, chat: Chat, limits: Limits) -> None:
        self.model, self.chat = model, chat
        self.rules = Rules(model, chat, limits)
        self.config = GenerationConfig(
            max_new_tokens=self.rules.most,
            do_sample=False,
            eos_token_id=self.rules.final or None,
            pad_token_id=chat.tokenizer.pad_token_id,
        )

    @torch.inference_mode()
    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        """Each prompt's answer; temperature 0 is greedy."""
        device = self.model.get_input_embeddings().weight.device
        padded = pad_left(prompts, self.chat.tokenizer.pad_token_id, device)
        width = padded.input_ids.shape[1]
        processors: list[LogitsProcessor] = [SeededSampling(temperatures, seeds, device)]
        criteria: list[StoppingCriteria] = []
        if self.rules.thinks:
            spoken = [Spoken(self.rules) for _ in prompts]
            processors.append(_Written(spoken))
            criteria.append(_Enough(spoken))
        # Set on the model, or generation would fill in the checkpoint's own sampling defaults; and each time, since
        # others may answer by the same model, within other limits.
        self.model.generation_config = self.config
        output = self.model.generate(
            input_ids=padded.input_ids,
            attention_mask=padded.attention_mask,
            logits_processor=processors,
            stopping_criteria=criteria,
        )
        return [self.rules.cut(row) for row in output[:, width:].tolist()]


class SeededSampling(LogitsProcessor):
    """Turns greedy choice into sampling, row by row: the largest of logits/T plus Gumbel noise is a sample of the
    softmax. Each row has its noise by its own seed, so neighbours do not change it."""

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int], device: torch.device) -> None:
        self.rows = torch.tensor([row for row, heat in enumerate(temperatures) if heat > 0], device=device)
        heats = [heat for heat in temperatures if heat > 0]
        self.temperatures = torch.tensor(heats, dtype=torch.float32, device=device)[:, None]
        words = seed_words([seed for seed, heat in zip(seeds, temperatures, strict=True) if heat > 0])
        self.words = torch.tensor(words, dtype=torch.long, device=device).view(-1, 2)
        self.step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if len(self.rows):
            noise = exponential_noise(self.words[:, 0], self.words[:, 1], self.step, scores.shape[-1])
            scores[self.rows] = scores[self.rows].float() / self.temperatures - noise.log()
        self.step += 1
        return scores


class _Written(LogitsProcessor):
    """Writes for a model whose thinking is to end."""

    def __init__(self, spoken: Sequence[Spoken]) -> None:
        self.spoken = spoken

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for row, spoken in enumerate(self.spoken):
            if (token := spoken.forced) is not None:
                scores[row] = -torch.inf
                scores[row, token] = 0.0
        return scores


class _Enough(StoppingCriteria):
    """Which rows are done: as long as they may be, or ended by a mark that could also stand in thinking."""

    def __init__(self, spoken: Sequence[Spoken]) -> None:
        self.spoken = spoken

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **rest: object) -> torch.Tensor:
        last = input_ids[:, -1].tolist()
        done = [spoken.add(token) for spoken, token in zip(self.spoken, last, strict=True)]
        return torch.tensor(done, device=input_ids.device)
