"""`transformers`: answers by transformers' own `generate`, a group of prompts at a time. It is the reference for other
engines: it runs every family, and does what they cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from moe_safety.config import ENGINES, ModelConfig
from moe_safety.generation.engine import Ability, Engine
from moe_safety.models.text import Answer, Limits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@ENGINES.add
class Transformers(Engine):
    """The engine `transformers`: answers by the model itself, on this replica."""

    name = "transformers"
    abilities = frozenset(Ability)

    def __init__(self, model: ModelConfig, limits: Limits, gpus: int, settings: Any = None) -> None:
        from moe_safety.models.io import kept_model
        from moe_safety.models.text.generate import Generator

        super().__init__(model, limits, gpus, settings)
        self.opened_on = model
        self.generator = Generator(kept_model(model, gpus), self.chat, limits)

    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        return self.generator.answer(prompts, temperatures, seeds) if prompts else []

    def avoiding(self, experts: Iterable[tuple[int, int]]) -> AbstractContextManager[None]:
        from moe_safety.models.routers import avoiding

        return avoiding(self.model, self.layout, experts)

    def losses(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        from moe_safety.models.text.answer_losses import answer_losses, make_rows
        from moe_safety.models.text.packed_attention import packing

        device = self.model.get_input_embeddings().weight.device
        with torch.inference_mode(), packing(self.model) as packed:
            return answer_losses(self.model, make_rows(prompts, answers, device, packed=packed))

    @contextmanager
    def swapping(self, delta: str) -> Iterator[None]:
        from moe_safety.models.io import kept_flips

        with kept_flips(self.opened_on.with_delta(delta)).inside(self.model):
            yield

    @property
    def model(self) -> PreTrainedModel:
        return self.generator.model
