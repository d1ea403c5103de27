"""Prompts wait for a slot, stand in it while they are answered, and make room for the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from moe_safety.models.slots.pages import PAGE
from moe_safety.models.slots.passes import BURST, QUERIES, Passes, Segment
from moe_safety.models.text.encode import Answer
from moe_safety.models.text.noise import seed_words
from moe_safety.models.text.spoken import Rules, Spoken


@dataclass
class Running:
    """A prompt and what was said to it so far."""

    prompt: Sequence[int]
    temperature: float
    words: tuple[int, int]
    spoken: Spoken

    @property
    def pages(self) -> int:
        """As many as it may come to need, so that it never has to wait."""
        return pages_for(len(self.prompt), self.spoken.rules)

    @property
    def state(self) -> tuple[int, ...]:
        """As the passes read it."""
        said = len(self.spoken.tokens)
        forced = self.spoken.forced
        written = -1 if forced is None else forced
        return len(self.prompt) + said, said, self.spoken.rules.most, *self.words, written


def pages_for(prompt: int, rules: Rules) -> int:
    """The pages of a prompt of so many tokens and its answer."""
    return -(-(prompt + rules.most) // PAGE)


class Answering:
    """One run over prompts, longest first or as they come: the order changes nothing but how well slots are filled."""

    def __init__(self, passes: Passes, rules: Rules) -> None:
        self.passes, self.rules = passes, rules
        self.free = list(range(passes.slots))[::-1]
        self.pages = list(range(1, passes.cache.count))[::-1]
        self.running: dict[int, Running] = {}
        self.table = np.zeros(passes.table.shape, dtype=np.int32)

    @torch.inference_mode()
    def __call__(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        """Each prompt's answer."""
        asked = [
            Running(*each, Spoken(self.rules)) for each in zip(prompts, temperatures, seed_words(seeds), strict=True)
        ]
        waiting = deque(asked)
        while waiting or self.running:
            self._admit(waiting)
            self._burst()
        return [self.rules.cut(one.spoken.tokens) for one in asked]

    def fits(self, prompt: Sequence[int]) -> bool:
        """Whether there is room for it at all."""
        return pages_for(len(prompt), self.rules) <= min(self.passes.cache.count - 1, self.table.shape[1])

    def _admit(self, waiting: deque[Running]) -> None:
        """Stands those in slots for which there is room, in order."""
        new = []
        while waiting and self.free and waiting[0].pages <= len(self.pages):
            slot, one = self.free.pop(), waiting.popleft()
            self.table[slot, : one.pages] = [self.pages.pop() for _ in range(one.pages)]
            self.table[slot, one.pages :] = 0
            self.running[slot] = one
            new.append(slot)
        if new:
            self.passes.table.copy_(torch.from_numpy(self.table))
            for segments in self._segments(new):
                self.passes.take_up(segments)

    def _segments(self, slots: Iterable[int]) -> Iterable[list[Segment]]:
        """The prompts in these slots, as passes that are full but for the last."""
        whole, room = [], self.passes.chunk
        for slot in slots:
            prompt, first = self.running[slot].prompt, 0
            while first < len(prompt):
                tokens = prompt[first : first + room]
                whole.append(Segment(slot, first, tokens, first + len(tokens) == len(prompt)))
                first += len(tokens)
                room -= -(-len(tokens) // QUERIES) * QUERIES
                if not room:
                    yield whole
                    whole, room = [], self.passes.chunk
        if whole:
            yield whole

    def _burst(self) -> None:
        """Every slot that runs says a few tokens; those that are done are freed."""
        state, heats = np.zeros((6, self.passes.slots), dtype=np.int64), np.zeros(self.passes.slots, dtype=np.float32)
        state[5] = -1
        steps = BURST
        for slot, one in self.running.items():
            state[:, slot], heats[slot] = one.state, one.temperature
            steps = min(steps, max(1, one.spoken.unwatched))
        self.passes.state.copy_(torch.from_numpy(state))
        self.passes.temperatures.copy_(torch.from_numpy(heats))
        for _ in range(steps):
            self.passes.say()
        said = self.passes.said.tolist()
        for slot, one in list(self.running.items()):
            before = len(one.spoken.tokens)
            if any(one.spoken.add(said[slot][place % BURST]) for place in range(before, before + steps)):
                self._leave(slot, self.running.pop(slot))

    def _leave(self, slot: int, one: Running) -> None:
        self.free.append(slot)
        self.pages += self.table[slot, : one.pages].tolist()
