"""What an arm's expert phase may train. Each is a context manager over a model, which is a plain model again outside:
inside, what it gives trains, by name, and nothing else does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout
    from moe_safety.models.experts import Gather, Pair, SelectiveExperts

    Trained = tuple[Mapping[str, torch.nn.Parameter], SelectiveExperts | None]
    """What trains, by name, and where it is experts what sets the mask of each batch."""


class Trains(Protocol):
    """Makes a part of a model train: `experts` are the union of the batches' selections, `gather` makes whole what
    ZeRO-3 has spread over workers."""

    def __call__(
        self, model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair], gather: Gather
    ) -> AbstractContextManager[Trained]: ...


@contextmanager
def selected_experts(
    model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair], gather: Gather
) -> Iterator[Trained]:
    """The experts that batches select."""
    from moe_safety.models.experts import selective_experts

    with selective_experts(model, experts, layout=layout, gather=gather) as selective:
        yield dict(selective.named_parameters()), selective


@contextmanager
def routers(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair], gather: Gather) -> Iterator[Trained]:
    """The routers' parameters, which every router phase trains."""
    from moe_safety.models.routers import routers as names_of

    with named(model, set(names_of(model, layout))) as trained:
        yield trained, None


@contextmanager
def everything(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair], gather: Gather) -> Iterator[Trained]:
    """Every parameter."""
    with named(model, {name for name, _ in model.named_parameters()}) as trained:
        yield trained, None


@contextmanager
def named(model: PreTrainedModel, names: Collection[str]) -> Iterator[dict[str, torch.nn.Parameter]]:
    """The parameters of these names."""
    from moe_safety.models.experts import frozen

    with frozen(model):
        chosen = {name: parameter for name, parameter in model.named_parameters() if name in names}
        for parameter in chosen.values():
            parameter.requires_grad_()
        yield chosen
