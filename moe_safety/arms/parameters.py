"""The parts of a model that an arm may train: which parameters each is (`PARTS`), which `verify` asks as well, and a
context manager over a model that lets a part train. Inside, what it gives trains, by name, and nothing else does;
outside the model is a plain model again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from moe_safety.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout
    from moe_safety.models.experts import Gather, Pair, SelectiveExperts

    Trained = tuple[Mapping[str, torch.nn.Parameter], SelectiveExperts | None]
    """What trains, by name, and where it is experts what sets the mask of each batch."""
    Names = Callable[[PreTrainedModel, MoELayout], Collection[str]]
    """Which parameters of a model a part of it is, by name."""


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


def _routers(model: PreTrainedModel, layout: MoELayout) -> Collection[str]:
    from moe_safety.models.routers import routers as names_of

    return names_of(model, layout)


def _everything(model: PreTrainedModel, layout: MoELayout) -> Collection[str]:
    return [name for name, _ in model.named_parameters()]


def _attention(model: PreTrainedModel, layout: MoELayout) -> Collection[str]:
    modules = [name for name, module in model.named_modules() if type(module).__name__.endswith("Attention")]
    return _below(modules, model, f"{layout.model_type} has no attention of its own")


def _shared_experts(model: PreTrainedModel, layout: MoELayout) -> Collection[str]:
    modules = [module for layer in layout.layers for module in layer.shared_experts]
    return _below(modules, model, f"{layout.model_type} has no shared experts")


def _below(modules: Iterable[str], model: PreTrainedModel, complaint: str) -> Collection[str]:
    found = {f"{at}.{name}" for at in modules for name, _ in model.get_submodule(at).named_parameters()}
    if not found:
        raise InputError(complaint)
    return found


PARTS: dict[str, Names] = {
    "routers": _routers,
    "attention": _attention,
    "shared experts": _shared_experts,
    "everything": _everything,
}
"""What an arm may change beside the experts that it selects."""


def names_of(parts: Iterable[str], model: PreTrainedModel, layout: MoELayout) -> set[str]:
    """The parameters that parts of a model are, by name."""
    return {name for part in parts for name in PARTS[part](model, layout)}


def whole(part: str) -> Trains:
    """Lets a part train, all of it."""

    @contextmanager
    def trains(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair], gather: Gather) -> Iterator[Trained]:
        with named(model, names_of([part], model, layout)) as trained:
            yield trained, None

    return trains


routers, everything = whole("routers"), whole("everything")


@contextmanager
def named(model: PreTrainedModel, names: Collection[str]) -> Iterator[dict[str, torch.nn.Parameter]]:
    """The parameters of these names."""
    from moe_safety.models.experts import frozen

    with frozen(model):
        chosen = {name: parameter for name, parameter in model.named_parameters() if name in names}
        for parameter in chosen.values():
            parameter.requires_grad_()
        yield chosen
