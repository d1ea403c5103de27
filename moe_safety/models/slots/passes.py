"""The two passes over slots: one takes up prompts, the other says a token in every slot. Each is one graph on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from moe_safety.models.slots.pages import Blocks, Pages, reading
from moe_safety.models.text.noise import exponential_noise, row_keys

QUERIES = 32
"""Of a block of a prompt."""
BURST = 8
"""The most tokens that are said before anybody looks at them."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt that stands in its slot from `first` on."""

    slot: int
    first: int
    tokens: Sequence[int]
    last: bool
    """Whether the prompt ends here, so that its answer begins."""


class Passes:
    """A model and its slots. `chunk` is the number of tokens of a pass that takes up prompts."""

    def __init__(self, model: PreTrainedModel, slots: int, chunk: int, pages: int, pages_each: int) -> None:
        self.model, self.slots, self.chunk = model, slots, chunk
        self.device = model.get_input_embeddings().weight.device
        self.cache = Pages(pages)
        self.table = torch.zeros(slots, pages_each, dtype=torch.int32, device=self.device)
        whole, blocks = self._whole, chunk // QUERIES
        # Of each slot: tokens in its pages, tokens said, the most that it says, its seed's words, a token that is
        # written for the model or -1.
        self.state = whole(6, slots)
        self.temperatures = torch.zeros(slots, device=self.device)
        self.said = whole(slots, BURST)
        self.ids = whole(blocks, QUERIES)
        self.prompts = Blocks(QUERIES, whole(blocks), whole(blocks), whole(blocks), self.table)
        self.ends, self.to = whole(blocks), whole(blocks)
        vocabulary = model.get_output_embeddings().weight.shape[0]
        self.logits = torch.zeros(slots + 1, vocabulary, dtype=model.dtype, device=self.device)
        self._graphs: dict[str, torch.cuda.CUDAGraph] = {}

    def take_up(self, segments: Sequence[Segment]) -> None:
        """Stands prompts in their slots; where one ends, its slot is about to say its first token. The segments begin
        at multiples of `QUERIES`, and fill a pass at most."""
        blocks = np.zeros((5, self.chunk // QUERIES), dtype=np.int64)
        blocks[4] = self.slots
        ids = np.zeros((blocks.shape[1], QUERIES), dtype=np.int64)
        at = 0
        for segment in segments:
            for start in range(0, len(segment.tokens), QUERIES):
                piece = segment.tokens[start : start + QUERIES]
                ids[at, : len(piece)] = piece
                last = segment.last and start + QUERIES >= len(segment.tokens)
                end, to = at * QUERIES + len(piece) - 1, segment.slot if last else self.slots
                blocks[:, at] = segment.slot, segment.first + start, len(piece), end, to
                at += 1
        targets = (self.prompts.slot, self.prompts.first, self.prompts.count, self.ends, self.to)
        for target, row in zip((*targets, self.ids), (*blocks, ids), strict=True):
            target.copy_(torch.from_numpy(row))
        self._run("take_up", self._take_up)

    def say(self) -> None:
        """Each slot that runs says a token."""
        self._run("say", self._say)

    def _take_up(self) -> None:
        self.logits.index_copy_(0, self.to, self._forward(self.ids, self.prompts, self.ends).to(self.logits.dtype))

    def _say(self) -> None:
        length, said, most, low, high, forced = self.state
        token = sampled(self.logits[: self.slots], self.temperatures, low, high, said)
        token = torch.where(forced >= 0, forced, token)
        self.said.scatter_(1, (said % BURST)[:, None], token[:, None])
        runs = (said < most).long()
        slots = torch.arange(self.slots, device=self.device)
        blocks = Blocks(1, slots, length * runs, runs, self.table)
        self.logits[: self.slots].copy_(self._forward(token[:, None], blocks, None))
        length.add_(runs)
        said.add_(runs)

    def _forward(self, ids: torch.Tensor, blocks: Blocks, kept: torch.Tensor | None) -> torch.Tensor:
        """The logits behind the tokens at these places, or behind all."""
        with reading(self.model, blocks, self.cache):
            return self.model(
                input_ids=ids.view(1, -1),
                position_ids=blocks.positions.view(1, -1),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=0 if kept is None else kept,
            ).logits[0]

    def _run(self, name: str, body: Callable[[], None]) -> None:
        if name in self._graphs:
            self._graphs[name].replay()
        else:
            body()

    @torch.inference_mode()
    def capture(self) -> None:
        """Makes graphs of both passes, while no slot runs."""
        memory = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for name, body in (("take_up", self._take_up), ("say", self._say)):
                for _ in range(2):
                    body()
                stream.synchronize()
                self._graphs[name] = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graphs[name], pool=memory, stream=stream):
                    body()
        torch.cuda.current_stream().wait_stream(stream)

    def _whole(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device=self.device)


def sampled(
    logits: torch.Tensor, temperatures: torch.Tensor, low: torch.Tensor, high: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """The token of each row."""
    if logits.is_cuda:
        from moe_safety.models.kernels.sampled_tokens import sample

        return sample(logits, temperatures, row_keys(low, high, step))
    return sampled_plainly(logits, temperatures, low, high, step)


def sampled_plainly(
    logits: torch.Tensor, temperatures: torch.Tensor, low: torch.Tensor, high: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """The same in plain operations."""
    heat = temperatures[:, None]
    noisy = logits.float() / heat.clamp(min=1e-30) - exponential_noise(low, high, step, logits.shape[-1]).log()
    return torch.where(heat > 0, noisy, logits.float()).argmax(-1)
