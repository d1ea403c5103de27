"""Answers to prompts. An answer depends on its prompt, temperature and seed, not on what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, StoppingCriteria

from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import Answer, Limits, pad_left


class Generator:
    """A model that answers."""

    def __init__(self, model: PreTrainedModel, chat: Chat, limits: Limits) -> None:
        self.model, self.chat, self.limits = model, chat, limits
        self.ends = _ends(model, chat)
        # Set on the model, or generation would fill in the checkpoint's own sampling defaults.
        model.generation_config = GenerationConfig(
            max_new_tokens=limits.answer
            + (limits.thinking + max(len(chat.closes), len(chat.prefix)) if self.thinks else 0),
            do_sample=False,
            eos_token_id=[end for end in self.ends if end not in self._inside] or None,
            pad_token_id=chat.tokenizer.pad_token_id,
        )

    @property
    def thinks(self) -> bool:
        """Whether something may stand before an answer."""
        return bool(self.chat.tokenizer.chat_template and self.chat.frame.mark)

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
        if self.thinks:
            progress = _Thinking(self.chat, self.limits, self.ends, width, len(prompts))
            processors.append(progress)
            criteria.append(_Enough(progress))
        output = self.model.generate(
            input_ids=padded.input_ids,
            attention_mask=padded.attention_mask,
            logits_processor=processors,
            stopping_criteria=criteria,
        )
        return [self.cut(row) for row in output[:, width:].tolist()]

    def cut(self, said: Sequence[int]) -> Answer:
        """The answer in what was said, which may go on behind its end."""
        said = list(said)
        if not self.thinks:
            answer = self._until_end(said, self.ends)
            return Answer([], answer, len(answer) < len(said))
        # Thinking may hold marks that end a turn elsewhere.
        whole = self._until_end(said, [end for end in self.ends if end not in self._inside])
        prefix, rest = self.chat.split(whole)
        answer = self._until_end(rest, self.ends)
        ended = len(answer) < len(rest) or len(whole) < len(said)
        return Answer(prefix, answer[: self.limits.answer], ended and len(answer) <= self.limits.answer)

    @cached_property
    def _inside(self) -> set[int]:
        """Tokens that may stand inside of thinking, whatever they mean elsewhere."""
        return set(self.chat.closes) if self.thinks else set()

    @staticmethod
    def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
        return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def _ends(model: PreTrainedModel, chat: Chat) -> list[int]:
    known = model.generation_config.eos_token_id if model.generation_config else None
    listed = known if isinstance(known, list) else [known]
    turn = chat.end if chat.tokenizer.chat_template else None
    return sorted({token for token in [*listed, chat.tokenizer.eos_token_id, turn] if token is not None})


class SeededSampling(LogitsProcessor):
    """Turns greedy choice into sampling, row by row: the largest of logits/T plus Gumbel noise is a sample of the
    softmax. Each row draws its noise from its own seed, so neighbours do not change it."""

    def __init__(self, temperatures: Sequence[float], seeds: Sequence[int], device: torch.device) -> None:
        self.temperatures = temperatures
        self.sources = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        for row, (temperature, source) in enumerate(zip(self.temperatures, self.sources, strict=True)):
            if temperature > 0:
                noise = torch.empty_like(scores[row], dtype=torch.float32).exponential_(generator=source)
                scores[row] = scores[row].float() / temperature - noise.log()
        return scores


class _Thinking(LogitsProcessor):
    """Follows each row from its thinking to its answer. Where the budget is used up, thinking is closed for the model,
    so that it still answers."""

    def __init__(self, chat: Chat, limits: Limits, ends: Sequence[int], start: int, rows: int) -> None:
        self.chat, self.limits, self.ends, self.start = chat, limits, set(ends), start
        # Without a budget, what is written is what the template writes where nothing was thought.
        self.closing = chat.closes if limits.thinking else chat.prefix
        self.mark = chat.tokenizer(chat.frame.mark, add_special_tokens=False).input_ids
        self.answer_from: list[int | None] = [None] * rows
        """How many tokens stand before each row's answer; nothing while it thinks."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        said = input_ids.shape[1] - self.start
        closing = self.closing[said - self.limits.thinking :] if said >= self.limits.thinking else []
        if closing:
            first = input_ids[:, self.start].tolist() if said else [self.chat.opening] * len(scores)
            for row, token in enumerate(first):
                if self.answer_from[row] is None and self._thinks(token):
                    scores[row] = -torch.inf
                    scores[row, closing[0]] = 0.0
        return scores

    def follow(self, input_ids: torch.LongTensor) -> torch.Tensor:
        """Which rows are done: as long as they may be, or ended by a mark that could also stand in thinking."""
        said, done = input_ids.shape[1] - self.start, []
        # All that is looked at of a step, brought from the device at once.
        seen = torch.cat([input_ids[:, self.start, None], input_ids[:, -min(said, len(self.mark)) :]], dim=1).tolist()
        for row, (first, *last) in enumerate(seen):
            if self.answer_from[row] is None:
                if not self._thinks(first):
                    self.answer_from[row] = 0
                elif last == self.mark:
                    self.answer_from[row] = said
            begun = self.answer_from[row]
            ended = begun is not None and said > begun and last[-1] in self.ends
            # Blanks behind the mark are no part of the answer, so a little more is said than is kept.
            done.append(ended or (begun is not None and said - begun >= self.limits.answer + _BLANKS))
        return torch.tensor(done, device=input_ids.device)

    def _thinks(self, first: int | None) -> bool:
        """Whether a row that begins so is not yet its answer."""
        return self.chat.opening in (None, first)


_BLANKS = 2


class _Enough(StoppingCriteria):
    def __init__(self, thinking: _Thinking) -> None:
        self.thinking = thinking

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **rest: object) -> torch.Tensor:
        return self.thinking.follow(input_ids)
