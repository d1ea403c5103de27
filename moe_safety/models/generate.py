"""Answers to prompts. An answer depends on its prompt, temperature and seed, not on what stands beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from moe_safety.models.encode import end_of_turn, pad_left


class Generator:
    """A model that answers."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.ends = _ends(model, tokenizer)
        # Set on the model, or generation would fill in the checkpoint's own sampling defaults.
        model.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=self.ends, pad_token_id=tokenizer.pad_token_id
        )

    @torch.inference_mode()
    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[list[int]]:
        """Each prompt's answer as tokens, without the end-of-turn token; temperature 0 is greedy."""
        device = self.model.get_input_embeddings().weight.device
        padded = pad_left(prompts, self.tokenizer.pad_token_id, device)
        output = self.model.generate(
            input_ids=padded.input_ids,
            attention_mask=padded.attention_mask,
            logits_processor=[SeededSampling(temperatures, seeds, device)],
        )
        return [self._until_end(row) for row in output[:, padded.input_ids.shape[1] :].tolist()]

    def text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _until_end(self, tokens: list[int]) -> list[int]:
        return tokens[: next((place for place, token in enumerate(tokens) if token in self.ends), len(tokens))]


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    known = model.generation_config.eos_token_id if model.generation_config else None
    listed = known if isinstance(known, list) else [known]
    turn = end_of_turn(tokenizer) if tokenizer.chat_template else None
    return sorted({token for token in [*listed, tokenizer.eos_token_id, turn] if token is not None})


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
