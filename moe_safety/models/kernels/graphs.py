"""A decoder's passes over packed rows, forward and backward, as graphs that a card runs by itself.

A step has as much to launch as to compute, and so goes at the pace of the host. Lines of tokens are filled up to a few
lengths, of which each is recorded once and then only started.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from moe_safety.errors import first_line
from moe_safety.models.decoder import decoder_of

_ROWS_ARE = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
"""What tells the decoder of packed rows."""


@contextmanager
def recording_steps(model: PreTrainedModel, parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Inside, passes over packed rows by which these parameters learn are recorded and run as graphs. What they do must
    hang on nothing but the rows, the parameters, and tensors that stay where they are."""
    decoder: Any = decoder_of(model)
    own = vars(decoder).get("forward")
    decoder.forward = Graphs(decoder.forward, parameters)
    try:
        yield
    finally:
        del decoder.forward
        if own is not None:
            decoder.forward = own


def _shape(tokens: int, rows: int, longest: int) -> tuple[int, int, int]:
    """Shapes are few: lengths are sixteenths of a power of two."""
    step = max(64, (1 << tokens.bit_length()) // 32)
    filled = -(-tokens // step) * step
    return filled, -(-rows // 8) * 8, 1 << (max(longest, filled - tokens, 1024) - 1).bit_length()


class Recorded(Protocol):
    """Passes of one shape."""

    hidden: torch.Tensor
    """What the forward pass leaves."""

    def forward(self) -> None:
        """Computes `hidden` of what stands in the line."""
        ...

    def backward(self, grad: torch.Tensor) -> None:
        """Computes the gradients, in the tensors that are kept for them."""
        ...


class Line:
    """Packed rows of one shape, in tensors that stay where they are; the rest of the line is a row of no meaning."""

    def __init__(self, tokens: int, rows: int, longest: int, device: torch.device) -> None:
        self.ids, self.positions = (torch.zeros(1, tokens, dtype=torch.long, device=device) for _ in range(2))
        self.limits = torch.zeros(rows + 2, dtype=torch.int32, device=device)
        self.counting = torch.arange(tokens, device=device)
        self.longest = longest

    def take(self, given: dict[str, Any]) -> None:
        """Puts these rows into the line."""
        length, limits = given["input_ids"].shape[1], given["cu_seq_lens_q"]
        self.ids[:, :length].copy_(given["input_ids"])
        self.ids[:, length:].zero_()
        self.positions[:, :length].copy_(given["position_ids"])
        self.positions[:, length:].copy_(self.counting[: self.ids.shape[1] - length])
        self.limits[: len(limits)].copy_(limits)
        self.limits[len(limits) :].fill_(self.ids.shape[1])

    @property
    def inputs(self) -> dict[str, Any]:
        """What the decoder is called with."""
        limits = dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), self.limits)
        longest = dict.fromkeys(("max_length_q", "max_length_k"), self.longest)
        return {"input_ids": self.ids, "position_ids": self.positions, **limits, **longest}


class _OnCard:
    """Both passes as graphs; all shapes share their memory, since a step ends before another begins."""

    def __init__(
        self,
        run: Callable[[], torch.Tensor],
        parameters: list[torch.nn.Parameter],
        grads: list[torch.Tensor],
        pool: Any,
    ) -> None:
        self._ahead, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Other threads of the process may go on meanwhile.
        how = {"pool": pool, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(self._ahead, **how):
            hidden = run()
        self.hidden, self._grad = hidden.detach(), torch.zeros_like(hidden)
        with torch.cuda.graph(self._back, **how):
            torch._foreach_copy_(grads, list(torch.autograd.grad(hidden, parameters, self._grad)))

    def forward(self) -> None:
        self._ahead.replay()

    def backward(self, grad: torch.Tensor) -> None:
        self._grad.copy_(grad)
        self._back.replay()


class Graphs:
    """The recorded passes of a decoder, by shape."""

    def __init__(
        self,
        run: Callable[..., Any],
        parameters: Iterable[torch.nn.Parameter],
        record: Callable[..., Recorded] | None = None,
    ) -> None:
        self.run, self.parameters = run, list(parameters)
        self.record = record or _OnCard
        self.pool = torch.cuda.graph_pool_handle() if record is None else None
        self.grads: list[torch.Tensor] = []
        """Where recorded passes leave gradients."""
        self.anchor = torch.zeros((), device=self.parameters[0].device, requires_grad=True)
        self.lines: dict[tuple[int, ...], Line] = {}
        self.recorded: dict[tuple[int, ...], Recorded] = {}
        self.failed = False

    def __call__(self, *args: Any, **given: Any) -> Any:
        """In place of the decoder's forward; packed rows that learn go by graphs, all else as it always does."""
        rows = {name: given.pop(name) for name in _ROWS_ARE if given.get(name) is not None}
        learns = torch.is_grad_enabled() and not self.failed and len(rows) == len(_ROWS_ARE)
        if args or not learns or any(isinstance(each, torch.Tensor) for each in given.values()):
            return self.run(*args, **rows, **given)
        length = rows["input_ids"].shape[1]
        shape = _shape(length, len(rows["cu_seq_lens_q"]) - 1, rows["max_length_q"])
        first = shape not in self.lines
        if first:
            self.lines[shape] = Line(*shape, self.anchor.device)
        line = self.lines[shape]
        line.take(rows)
        if not first and shape not in self.recorded:
            self._try(shape, lambda: self.run(**line.inputs, **given)[0])
        if shape in self.recorded:
            hidden = _Replay.apply(self.anchor, self, self.recorded[shape])
        else:
            hidden = self.run(**line.inputs, **given)[0]
        return MoeModelOutputWithPast(last_hidden_state=hidden[:, :length])

    def _try(self, shape: tuple[int, ...], run: Callable[[], torch.Tensor]) -> None:
        """Records a shape that comes for the second time: the first has compiled what there is to compile."""
        if not self.grads:
            self.grads = [torch.zeros_like(each) for each in self.parameters]
        try:
            self.recorded[shape] = self.record(run, self.parameters, self.grads, self.pool)
        except Exception as error:
            self.failed = True
            reason = first_line(error)
            logging.getLogger(__name__).warning("steps cannot be recorded, so training is slower: %s", reason)

    def learn(self, recorded: Recorded, grad: torch.Tensor) -> None:
        """Adds the gradients of a recorded pass to those that are there."""
        for parameter, own in zip(self.parameters, self.grads, strict=True):
            if parameter.grad is own:
                parameter.grad = own.clone()
        recorded.backward(grad)
        for parameter, own in zip(self.parameters, self.grads, strict=True):
            parameter.grad = own if parameter.grad is None else parameter.grad + own


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, graphs: Graphs, recorded: Recorded) -> torch.Tensor:
        ctx.graphs, ctx.recorded = graphs, recorded
        recorded.forward()
        return recorded.hidden.detach()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, None, None]:
        ctx.graphs.learn(ctx.recorded, grads[0])
        return None, None, None
