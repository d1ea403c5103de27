"""`slots`: on a GPU, answers many prompts at once in passes of constant shape, each replayed as one graph. Whatever it
cannot serve so, `transformers` answers on the same loaded model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from moe_safety.config import ENGINES, ModelConfig, Section
from moe_safety.generation.engines.hf import Transformers
from moe_safety.models.text import Answer, Limits

if TYPE_CHECKING:
    from moe_safety.models.slots.answering import Answering


class SlotSettings(Section):
    """The section `engines.slots`."""

    slots: int = Field(256, ge=1)
    """Prompts that are answered at once. It decides an answer's last bits, where what runs beside it does not."""
    chunk: int = Field(2048, ge=32, multiple_of=32)
    """Prompt tokens that are taken up at once."""


@ENGINES.add
class Slots(Transformers):
    """The engine `slots`. It does all that `transformers` does, and answers faster."""

    name = "slots"
    section = SlotSettings
    device = "cuda"
    """The kind of device on which graphs pay; on others the reference answers."""

    def __init__(self, model: ModelConfig, limits: Limits, gpus: int, settings: SlotSettings) -> None:
        super().__init__(model, limits, gpus, settings)
        self.settings = settings
        self._opened: Answering | None = None
        self._weights: list[int] = []

    @classmethod
    def at_once(cls, settings: Any) -> int:
        return settings.slots if isinstance(settings, SlotSettings) else 1

    def holds(self, prompts: Sequence[Sequence[int]]) -> bool:
        slots = self._slots
        return slots is not None and all(map(slots.fits, prompts))

    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        def asked(places: Sequence[int]) -> list[list[Any]]:
            return [[each[place] for place in places] for each in (prompts, temperatures, seeds)]

        slots = self._slots
        served = [place for place, prompt in enumerate(prompts) if slots and slots.fits(prompt)]
        answers = dict(zip(served, slots(*asked(served)), strict=True)) if slots else {}
        others = sorted(set(range(len(prompts))) - set(served))
        if others:
            answers |= zip(others, super().answer(*asked(others)), strict=True)
        return [answers[place] for place in range(len(prompts))]

    @property
    def _slots(self) -> Answering | None:
        """Nothing where the model cannot be served so as it stands. A graph knows nothing of hooks, such as steering
        sets, and reads weights where they stood when it was made."""
        if any(module._forward_hooks or module._forward_pre_hooks for module in self.model.modules()):
            return None
        weights = [parameter.data_ptr() for parameter in self.model.parameters()]
        if weights != self._weights:
            self._opened = None  # two of them might not fit
            self._opened, self._weights = self._open(), weights
        return self._opened

    def _open(self) -> Answering | None:
        from moe_safety.models.slots.answering import Answering
        from moe_safety.models.slots.pages import NotServed
        from moe_safety.models.slots.trial import opened

        if self.model.device.type != self.device:
            return None
        try:
            return Answering(opened(self.model, self.settings.slots, self.settings.chunk), self.generator.rules)
        except NotServed as reason:
            logging.getLogger(__name__).warning("answers come from the engine `transformers`: %s", reason)
            return None
