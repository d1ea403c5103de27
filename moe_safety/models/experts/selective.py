"""Training some experts of a model, and nothing else of it.

A fused tensor holds all experts of a layer, so nothing per expert can be frozen in it. Here every chosen expert's rows
become a small trainable tensor of their own; the fused tensor stays frozen, takes these rows in before each product,
and is multiplied as a whole. The backward pass computes weight gradients for the active experts alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from moe_safety import checks
from moe_safety.checks import Pair
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts.forward import NAME, TRAINED, Dispatch, grouped_outer, grouped_product
from moe_safety.models.experts.interface import adopted
from moe_safety.models.kernels.training import HALVES, chosen_outer, serves
from moe_safety.models.layout import MoELayer, MoELayout, check_experts, inspect_model


class Gather(Protocol):
    """Makes whole, inside the context, parameters that are spread over workers; changes made there are kept."""

    def __call__(self, parameters: list[torch.nn.Parameter], /) -> AbstractContextManager[object]: ...


@dataclass(frozen=True)
class Active:
    """The experts of one layer whose gradients are wanted, and where they stand among those that train."""

    experts: list[int]
    rows: list[int]


class TrainedLayer:
    """One layer's chosen experts: stands in for the linear maps of the experts module."""

    def __init__(self, module: torch.nn.Module, layer: MoELayer, experts: list[int], gather: Gather) -> None:
        self.module, self.layer = module, layer
        fused = {name.rsplit(".", 1)[1]: module.get_parameter(name.rsplit(".", 1)[1]) for name in layer.parameters}
        device = next(iter(fused.values())).device
        self.chosen, self.experts = experts, torch.tensor(experts, device=device)
        self.own: dict[str, torch.nn.Parameter] = {}
        """The trainable rows, by the name of the fused tensor they belong to; in the order of `experts`."""
        for name in fused if experts else ():
            with gather([fused[name]]):
                rows = fused[name].detach().index_select(0, self.experts)
            self.own[name] = torch.nn.Parameter(rows)
            module.register_parameter(f"trained_{name}", self.own[name])
        self.keeps_all = device.type == "cuda"
        """Whether all tokens wait for the backward pass, not only the active experts', which a GPU has yet to count."""
        self.earlier: Mapping[str, torch.Tensor] | None = None
        """An earlier state of the rows, while that is looked at."""
        self.active = Active(experts, list(range(len(experts))))
        """The experts whose gradients are wanted."""
        self.wanted = torch.ones(len(experts), dtype=torch.uint8, device=device)
        """The same for kernels, one number for each of `experts`; it stays where it is."""

    def rows(self, name: str) -> torch.Tensor:
        """The rows that the forward pass runs on. Asked of the module, where something else may stand for `own`."""
        return self.earlier[name] if self.earlier else getattr(self.module, f"trained_{name}")

    def linear(self, tokens: torch.Tensor, name: str, dispatch: Dispatch, spread: bool) -> torch.Tensor:
        """The product of tokens with one fused tensor, as `forward.py` asks for it."""
        fused = getattr(self.module, name)
        rows = self.rows(name) if name in self.own else None
        out = _Product.apply(tokens.to(fused.dtype), rows, self, name, dispatch, spread)
        return out + dispatch.each(self._bias(f"{name}_bias")) if self.layer.has_bias else out

    def current(self, name: str) -> torch.Tensor:
        """The fused tensor with the trained rows in their places, as [expert, in, out]."""
        whole = getattr(self.module, name)
        fused = whole.detach()[: self.layer.num_experts]
        if name in self.own and hasattr(whole, "ds_id"):
            # Every time: ZeRO-3 brings the fused tensor back as it was stored. Else `take_in` has done it.
            fused.index_copy_(0, self.experts, self.rows(name).detach())
        return fused if self.layer.transposed else fused.transpose(-2, -1)

    def places(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each row with its place in the fused tensor, where that is whole."""
        for name in self.own:
            whole = getattr(self.module, name)
            if not hasattr(whole, "ds_id"):
                fused, rows = whole.detach(), self.rows(name).detach()
                yield from ((fused[expert], row) for expert, row in zip(self.chosen, rows, strict=True))

    def has_kernel(self, tokens: torch.Tensor) -> bool:
        """Whether one kernel takes the gradient of the trained rows, which asks nothing of the card."""
        return self.keeps_all and serves(tokens, HALVES)

    def gradient_there(
        self, grad: torch.Tensor, tokens: torch.Tensor, dispatch: Dispatch, spread: bool
    ) -> torch.Tensor:
        """Of the trained rows, by that kernel."""
        rows = dispatch.rows if spread else None
        one, other = (tokens, grad) if self.layer.transposed else (grad, tokens)
        named = (rows, None) if self.layer.transposed else (None, rows)
        return chosen_outer(one, other, named, dispatch.offsets, self.experts, self.wanted)

    def gradient(
        self, name: str, active: Active, grad: torch.Tensor, tokens: torch.Tensor | None, places: list[slice]
    ) -> torch.Tensor:
        """Of the trained rows: that of the active experts, from what their `places` hold, and zero for others."""
        shape = getattr(self.own[name], "ds_shape", self.own[name].shape)
        if tokens is None or not len(tokens):
            return torch.zeros(shape, dtype=grad.dtype, device=grad.device)
        ends = sent(list(accumulate(place.stop - place.start for place in places)), torch.int32, grad.device)
        one, other = (tokens, grad) if self.layer.transposed else (grad, tokens)
        found = grouped_outer(one, other, ends)
        if len(active.experts) == shape[0]:
            return found
        rows = sent(active.rows, torch.long, grad.device)
        return torch.zeros(shape, dtype=grad.dtype, device=grad.device).index_copy_(0, rows, found)

    def _bias(self, name: str) -> torch.Tensor:
        fused = getattr(self.module, name)
        if name not in self.own:
            return fused
        rows = self.rows(name)
        return fused.index_copy(0, self.experts, torch.where(self.wanted.bool()[:, None], rows, rows.detach()))

    @torch.no_grad()
    def hand_back(self, gather: Gather) -> None:
        """The fused tensors take the trained rows for good, and the module is as it was."""
        for name, own in self.own.items():
            fused = self.module.get_parameter(name)
            with gather([fused, own]):
                fused.data.index_copy_(0, self.experts.to(fused.device), own.data.to(fused.device))
            del self.module._parameters[f"trained_{name}"]


class _Product(torch.autograd.Function):
    """Each token times its expert's matrix. It holds on to parameters by name, not by value: ZeRO-3 frees them between
    the two passes."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: torch.Tensor,
        own: torch.Tensor | None,
        layer: TrainedLayer,
        name: str,
        dispatch: Dispatch,
        spread: bool,
    ) -> torch.Tensor:
        ctx.layer, ctx.name, ctx.dispatch, ctx.spread = layer, name, dispatch, spread
        ctx.active, kept = layer.active, []
        # The kernel's passes may be recorded, and must be the same whatever the mask.
        if ctx.needs_input_grad[1] and (layer.active.experts or layer.has_kernel(tokens)):
            if not layer.has_kernel(tokens):
                dispatch.send_ends()
            places = dispatch.places_of(layer.active.experts) if not layer.keeps_all else []
            kept = [dispatch.take(tokens, places, spread) if places else tokens]
        ctx.save_for_backward(*kept)
        tokens = dispatch.gather(tokens) if spread else tokens
        return grouped_product(tokens, layer.current(name), dispatch.offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad, layer, dispatch = grads[0].contiguous(), ctx.layer, ctx.dispatch
        for_tokens = for_own = None
        if ctx.needs_input_grad[0]:
            matrix = layer.current(ctx.name).transpose(-2, -1)
            for_tokens = grouped_product(grad, matrix, dispatch.offsets)
            for_tokens = dispatch.sum_back(for_tokens) if ctx.spread else for_tokens
        if ctx.needs_input_grad[1]:
            # Asked for once: a checkpointed layer computes what it saved again on asking.
            tokens = next(iter(ctx.saved_tensors), None)
            if tokens is not None and layer.has_kernel(tokens):
                return for_tokens, layer.gradient_there(grad, tokens, dispatch, ctx.spread), *(None,) * 4
            places = dispatch.places_of(ctx.active.experts) if tokens is not None else []
            if tokens is not None and layer.keeps_all:
                tokens = dispatch.take(tokens, places, ctx.spread)
            here = dispatch.take(grad, places, spread=False) if places else grad
            for_own = layer.gradient(ctx.name, ctx.active, here, tokens, places)
        return for_tokens, for_own, None, None, None, None


class SelectiveExperts:
    """The trainable experts inside `selective_experts`, and the mask of the coming step."""

    def __init__(self, model: PreTrainedModel, layout: MoELayout, experts: list[Pair], gather: Gather) -> None:
        self.layout, self.experts = layout, experts
        self._layers = {}
        for layer in layout.layers:
            module = model.get_submodule(layer.experts)
            chosen = [expert for index, expert in experts if index == layer.index]
            self._layers[layer.index] = TrainedLayer(module, layer, chosen, gather)
            vars(module)[TRAINED] = self._layers[layer.index]
        self._hook = decoder_of(model).register_forward_pre_hook(self.take_in)

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The trainable rows of each fused tensor, by that tensor's name in the model."""
        for layer in self._layers.values():
            for name, own in layer.own.items():
                yield f"{layer.layer.experts}.{name}", own

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The trainable rows, for any optimizer."""
        return (own for _, own in self.named_parameters())

    def set_active(self, experts: Iterable[Pair] | None = None) -> None:
        """The mask of the coming step: only these experts receive a gradient. All of them unless given."""
        active = self.experts if experts is None else checks.pairs(experts)
        outside = sorted(set(active) - set(self.experts))
        checks.require(not outside, "experts", f"{outside[:3]} are not among those that train")
        wanted = set(active)
        for device, layers in self._by_device().items():
            for layer in layers:
                rows = [row for row, one in enumerate(layer.chosen) if (layer.layer.index, one) in wanted]
                layer.active = Active([layer.chosen[row] for row in rows], rows)
            flags = [row in layer.active.rows for layer in layers for row in range(len(layer.chosen))]
            # All layers at once, since each transfer costs a launch.
            parts = sent(flags, torch.uint8, device).split([len(layer.chosen) for layer in layers])
            torch._foreach_copy_([layer.wanted for layer in layers], list(parts))

    def _by_device(self) -> dict[torch.device, list[TrainedLayer]]:
        found: dict[torch.device, list[TrainedLayer]] = {}
        for layer in self._layers.values():
            found.setdefault(layer.experts.device, []).append(layer)
        return found

    @torch.no_grad()
    def take_in(self, *_: object) -> None:
        """The fused tensors take in the rows that the forward pass is to run on: before each."""
        pairs = [pair for layer in self._layers.values() for pair in layer.places()]
        if pairs:
            torch._foreach_copy_([place for place, _ in pairs], [row for _, row in pairs])

    def active(self) -> list[Pair]:
        """The mask in force, as the layers hold it."""
        return [(index, expert) for index, layer in self._layers.items() for expert in layer.active.experts]

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """Keeps the rows as they are now, and returns `as_remembered`."""
        self._remembered = {
            index: {name: own.detach().clone() for name, own in layer.own.items()}
            for index, layer in self._layers.items()
        }
        return self.as_remembered

    @contextmanager
    def as_remembered(self) -> Iterator[None]:
        """Inside, the forward pass runs on the rows that `remember` kept."""
        for index, layer in self._layers.items():
            layer.earlier = self._remembered[index]
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.earlier = None
            # A backward pass may be due of what ran before.
            self.take_in()

    def hand_back(self, gather: Gather) -> None:
        """Puts the trained rows into the model for good, and leaves its modules as they were."""
        self._hook.remove()
        for layer in self._layers.values():
            layer.hand_back(gather)
            del vars(layer.module)[TRAINED]


@contextmanager
def selective_experts(
    model: PreTrainedModel,
    experts: Iterable[Pair],
    *,
    layout: MoELayout | None = None,
    gather: Gather | None = None,
) -> Iterator[SelectiveExperts]:
    """A context manager that trains only these (layer, expert) pairs; routers and dropout behave as in `eval()`.

    Yields what has `.parameters()`, for any optimizer, and `.set_active(experts)`, the mask of the coming step. On
    leaving, the model holds the new weights as a plain model. Where ZeRO-3 spreads parameters over workers, whose
    shapes then say nothing, `gather` makes them whole and `layout` is known from before.

    >>> ids = torch.tensor([[5, 6, 7, 8]])
    >>> with selective_experts(model, [(0, 3), (1, 7)]) as chosen:
    ...     optimizer = torch.optim.AdamW(chosen.parameters(), lr=1e-3)
    ...     chosen.set_active([(0, 3)])
    ...     loss = model(input_ids=ids, labels=ids).loss
    ...     loss.backward()
    ...     optimizer.step()
    """
    checks.a_model(model)
    gather = gather or as_they_are
    with adopted(model), running_our_experts(model), frozen(model):
        layout = layout or inspect_model(model)
        selective = SelectiveExperts(model, layout, check_experts(layout, experts), gather)
        try:
            yield selective
        except BaseException:
            if gather is as_they_are:
                selective.hand_back(gather)
            # Else making parameters whole would wait for workers that know of no error.
            raise
        selective.hand_back(gather)


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Inside, no parameter of the model trains and everything behaves as in `eval()`."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    were_training = {module: module.training for module in model.modules()}
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in before.items():
            parameter.requires_grad_(required)
        for module, was_training in were_training.items():
            module.training = was_training


@contextmanager
def running_our_experts(model: PreTrainedModel) -> Iterator[None]:
    """Inside, experts run through this program's function."""
    before = model.config._experts_implementation
    model.set_experts_implementation(NAME)
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def sent(numbers: Sequence[float], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """These numbers on the device, without waiting for what the device has yet to do."""
    return torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def as_they_are(parameters: list[torch.nn.Parameter], /) -> AbstractContextManager[object]:
    """A gather for parameters that are whole already."""
    return nullcontext()
