"""The experts function of this program, registered with transformers: it serves every family of the experts interface.

Capture, gradients, effects, generation and training all run through it, so that what was measured is what is trained.
It differs from transformers' own grouped function in what it leaves out: routing weights are folded into the
activations before the second product, which spares one pass over the widest tensor, and no expert-parallel masks are
applied. On a GPU what is no product runs as one kernel each (`kernels`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import grouped_mm
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_safety.errors import InputError
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts.interface import adopt
from moe_safety.models.kernels import card, formulas
from moe_safety.models.kernels.fused_experts import gated, is_usual_on_card

NAME = "moe_safety"
TRAINED = "trained_experts"
"""Where an experts module keeps what stands in for its linear maps while only some of its experts train."""


def use_our_experts(model: PreTrainedModel) -> PreTrainedModel:
    """Makes `model` run its experts through `experts_forward`. Generation leaves a function of this name in place."""
    adopt(model)
    model.set_experts_implementation(NAME)
    decoder = decoder_of(model)
    # transformers leaves it as it is, without a word, where it does not find its decorator in a class's source.
    if decoder.config._experts_implementation != NAME:
        name, classes = model.name_or_path or model.config.model_type, {type(model).__name__, type(decoder).__name__}
        raise InputError(
            f"transformers cannot set what runs its experts: the file of {' and '.join(sorted(classes))} does not name "
            "@use_experts_implementation",
            file=name,
        )
    return model


class Dispatch:
    """Tokens sorted by expert: `rows` says which token each place holds, `offsets` where each expert's places end."""

    def __init__(self, index: torch.Tensor, num_experts: int) -> None:
        self.top_k = index.shape[-1]
        sort = (card.kernels(index) or formulas).dispatch
        self.order, self.back, self.offsets = sort(index, num_experts)
        self._ends: torch.Tensor | None = None
        self._sent: torch.cuda.Event | None = None

    @cached_property
    def rows(self) -> torch.Tensor:
        """The token of each place."""
        return torch.div(self.order, self.top_k, rounding_mode="floor")

    def spread(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each token's copy for each of its experts, sorted by expert."""
        return _Spread.apply(tokens, self) if torch.is_grad_enabled() else self.gather(tokens)

    def combine(self, places: torch.Tensor) -> torch.Tensor:
        """Each token's sum over its experts."""
        return _Combine.apply(places, self) if torch.is_grad_enabled() else self.sum_back(places)

    def each(self, rows: torch.Tensor) -> torch.Tensor:
        """The row of each place's expert."""
        places = torch.arange(len(self.order), device=self.offsets.device, dtype=torch.int32)
        return rows[torch.searchsorted(self.offsets, places, right=True, out_int32=True)]

    def sort(self, values: torch.Tensor) -> torch.Tensor:
        """One value for each token and expert, in the order of places."""
        values = values.reshape(-1)
        return _Sort.apply(values, self) if torch.is_grad_enabled() else values.index_select(0, self.order)

    def send_ends(self) -> None:
        """Sends to the processor where places end, for `places_of`. Asking a GPU for it only then would make the
        processor wait for all that the GPU has yet to do."""
        if self._ends is None:
            self._ends = self.offsets.to("cpu", non_blocking=True)
            if self.offsets.is_cuda:
                self._sent = torch.cuda.current_stream(self.offsets.device).record_event()

    def places_of(self, experts: list[int]) -> list[slice]:
        """Each of these experts' places; after `send_ends`."""
        if self._sent:
            self._sent.synchronize()
        ends = [0, *cast(torch.Tensor, self._ends).tolist()]
        return [slice(ends[expert], ends[expert + 1]) for expert in experts]

    def take(self, tokens: torch.Tensor, places: list[slice], spread: bool) -> torch.Tensor:
        """What these places hold of tokens that are to be spread yet, or are."""
        if spread:
            return tokens.index_select(0, torch.cat([self.rows[place] for place in places]))
        return torch.cat([tokens[place] for place in places])

    def gather(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens in the order of the experts that they go to."""
        kernels = card.kernels(tokens)
        return kernels.spread(tokens, self.back, self.top_k) if kernels else tokens.index_select(0, self.rows)

    def sum_back(self, places: torch.Tensor) -> torch.Tensor:
        """The sum of what the experts of each token gave, in the order of tokens."""
        if kernels := card.kernels(places):
            return kernels.summed(places, self.back, self.top_k)
        return places.index_select(0, self.back).view(-1, self.top_k, places.shape[-1]).sum(dim=1)


class _Spread(torch.autograd.Function):
    """Spreading and combining are each other's transpose. Told so, autograd needs no scattered additions, whose order,
    and so whose rounding, changes from run to run."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, dispatch: Dispatch) -> torch.Tensor:
        ctx.dispatch = dispatch
        return dispatch.gather(tokens)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.dispatch.sum_back(grads[0]), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: torch.Tensor, dispatch: Dispatch) -> torch.Tensor:
        ctx.dispatch = dispatch
        return dispatch.sum_back(places)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.dispatch.gather(grads[0]), None


class _Sort(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dispatch: Dispatch) -> torch.Tensor:
        ctx.dispatch = dispatch
        return values.index_select(0, dispatch.order)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0].index_select(0, ctx.dispatch.back), None


def experts_forward(
    self: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """What the routed experts add to each token."""
    dispatch = Dispatch(top_k_index, cast(int, self.num_experts))
    weight = dispatch.sort(top_k_weights).unsqueeze(-1).to(hidden_states.dtype)
    norm = cast(Callable[[torch.Tensor], torch.Tensor] | None, getattr(self, "post_expert_norm", None))
    # The product is linear, so the routing weight may stand before it, unless a bias or a norm comes between.
    before = not self.has_bias and norm is None
    out = _grouped_linear(self, hidden_states, "gate_up_proj" if self.has_gate else "up_proj", dispatch, spread=True)
    if before and is_usual_on_card(self, out) and _learns(self, "down_proj", dispatch):
        out = _GateProduct.apply(out, weight, self.down_proj, dispatch, self.is_transposed)
    else:
        out = _grouped_linear(self, gated(self, out, weight if before else None), "down_proj", dispatch)
    if not before:
        out = (out if norm is None else norm(out)) * weight
    return dispatch.combine(out).to(hidden_states.dtype)


def _grouped_linear(
    self: torch.nn.Module, tokens: torch.Tensor, name: str, dispatch: Dispatch, *, spread: bool = False
) -> torch.Tensor:
    """The experts' linear map of that name; of tokens yet to be spread, if so."""
    trained = vars(self).get(TRAINED)
    if trained is not None:
        return trained.linear(tokens, name, dispatch, spread)
    matrix = getattr(self, name)
    transposed = cast(bool, self.is_transposed)
    if spread and card.kernels(tokens) and _learns(self, name, dispatch):
        out = _SpreadProduct.apply(tokens.to(matrix.dtype), matrix, dispatch, transposed)
    else:
        tokens = dispatch.spread(tokens) if spread else tokens
        out = grouped_product(tokens.to(matrix.dtype), _into(matrix, transposed), dispatch.offsets)
    return out + dispatch.each(getattr(self, f"{name}_bias")) if self.has_bias else out


def _learns(self: torch.nn.Module, name: str, dispatch: Dispatch) -> bool:
    """Whether the whole fused tensor of that name gets a gradient."""
    if TRAINED in vars(self) or not torch.is_grad_enabled():
        return False
    matrix = cast(torch.Tensor, getattr(self, name))
    return matrix.requires_grad and len(matrix) == len(dispatch.offsets)


class _SpreadProduct(torch.autograd.Function):
    """Tokens times the matrices of their experts. What waits for the backward pass are the tokens, and not a copy of
    each for each of its experts."""

    @staticmethod
    def forward(
        ctx: Any, tokens: torch.Tensor, matrix: torch.Tensor, dispatch: Dispatch, transposed: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(tokens, matrix)
        ctx.dispatch, ctx.transposed = dispatch, transposed
        return grouped_product(dispatch.gather(tokens), _into(matrix, transposed), dispatch.offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (tokens, matrix), dispatch, grad = ctx.saved_tensors, ctx.dispatch, grads[0].contiguous()
        for_matrix = _for_matrix(dispatch.gather(tokens), grad, dispatch, ctx.transposed)
        if not ctx.needs_input_grad[0]:
            return None, for_matrix, None, None
        return dispatch.sum_back(_for_tokens(matrix, grad, dispatch, ctx.transposed)), for_matrix, None, None


class _GateProduct(torch.autograd.Function):
    """What the gate lets through times the matrices of the experts. The gate is taken again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        both: torch.Tensor,
        weight: torch.Tensor,
        matrix: torch.Tensor,
        dispatch: Dispatch,
        transposed: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(both, weight, matrix)
        ctx.dispatch, ctx.transposed = dispatch, transposed
        return grouped_product(card.kernels(both).gate(both, weight), _into(matrix, transposed), dispatch.offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (both, weight, matrix), grad, kernels = ctx.saved_tensors, grads[0].contiguous(), card.kernels(grads[0])
        for_matrix = _for_matrix(kernels.gate(both, weight), grad, ctx.dispatch, ctx.transposed)
        for_inner = _for_tokens(matrix, grad, ctx.dispatch, ctx.transposed)
        return *kernels.gate_backward(both, weight, for_inner), for_matrix, None, None


def _for_tokens(matrix: torch.Tensor, grad: torch.Tensor, dispatch: Dispatch, transposed: bool) -> torch.Tensor:
    return grouped_product(grad, _into(matrix, transposed).transpose(-2, -1), dispatch.offsets)


def _for_matrix(tokens: torch.Tensor, grad: torch.Tensor, dispatch: Dispatch, transposed: bool) -> torch.Tensor:
    one, other = (tokens, grad) if transposed else (grad, tokens)
    return grouped_outer(one, other, dispatch.offsets)


def _into(matrix: torch.Tensor, transposed: bool) -> torch.Tensor:
    """The fused tensor as [expert, in, out]."""
    return matrix if transposed else matrix.transpose(-2, -1)


def grouped_product(tokens: torch.Tensor, matrices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Tokens up to each offset times the matrix of the same number."""
    if matrices.dtype != torch.float64:
        return grouped_mm(tokens, matrices, offs=offsets)
    # The kernel stops at float32; proofs want more.
    pieces = zip(_segments(tokens, offsets), matrices, strict=False)
    return torch.cat([segment @ matrix for segment, matrix in pieces])


def grouped_outer(left: torch.Tensor, right: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """For the tokens up to each offset, the sum of their outer products: [group, left width, right width]."""
    if left.dtype != torch.float64:
        return grouped_mm(left.t(), right, offs=offsets)
    pieces = zip(_segments(left, offsets), _segments(right, offsets), strict=True)
    return torch.stack([one.t() @ other for one, other in pieces])


def _segments(tokens: torch.Tensor, offsets: torch.Tensor) -> list[torch.Tensor]:
    ends = offsets.tolist()
    return [tokens[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)
