"""The parts of a model that an arm may train: which parameters each is (`PARTS`), which `verify` asks as well, and
context managers over a model that let a part train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from moe_safety.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout
    from moe_safety.models.experts import Gather, Pair, SelectiveExperts

    Names = Callable[[PreTrainedModel, MoELayout, Sequence[Pair]], Collection[str]]
    """Which parameters of a model a part of it is, by name; of one that is as large as some experts, beside these."""


@dataclass(frozen=True)
class Asked:
    """What is to train, and how."""

    layout: MoELayout
    experts: Sequence[Pair] = ()
    """The union of the batches' selections; where no expert trains, what the part that does is to be as large as."""
    gather: Gather | None = None
    """Makes whole what ZeRO-3 has spread over workers; none where nothing is spread."""
    own: Any = None
    """The arm's own settings; none where it takes none."""
    seed: int = 0
    """Decides what is drawn."""


@dataclass(frozen=True)
class Trained:
    """What trains: parameters of the model, or others that stand beside them and are merged into them in the end."""

    parameters: Mapping[str, torch.nn.Parameter]
    """What steps change, by name."""
    remember: Callable[[], Callable[[], AbstractContextManager[object]]]
    """Keeps the model as it is now, and returns what brings that back for a while."""
    selective: SelectiveExperts | None = None
    """Where experts train, what sets the mask of each batch."""
    merged_into: Collection[str] = ()
    """The model's own parameters that it is merged into, where it is not of the model itself."""

    @property
    def changes(self) -> Collection[str]:
        """The model's own parameters that are others in the end, by name."""
        return self.merged_into or self.parameters.keys()


class Trains(Protocol):
    """Makes a part of a model train. Inside, what it gives trains, and nothing else does; outside the model is a plain
    model again, with what was learned."""

    def __call__(self, model: PreTrainedModel, asked: Asked) -> AbstractContextManager[Trained]: ...


@contextmanager
def selected_experts(model: PreTrainedModel, asked: Asked) -> Iterator[Trained]:
    """The experts that batches select."""
    from moe_safety.models.experts import selective_experts

    with selective_experts(model, asked.experts, layout=asked.layout, gather=asked.gather) as selective:
        yield Trained(dict(selective.named_parameters()), selective.remember, selective)


def _routers(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    from moe_safety.models.routers import routers

    return routers(model, layout)


def _everything(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    return [name for name, _ in model.named_parameters()]


def _attention(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    modules = [name for name, module in model.named_modules() if type(module).__name__.endswith("Attention")]
    return _below(modules, model, f"{layout.model_type} has no attention of its own")


def _sized_attention(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    """Whole layers' attention, first of the layers that have most of the experts, of equals the first: as many as come
    nearest to the experts' number of parameters, and one at least."""
    from moe_safety.models.decoder import decoder_layers, decoder_of

    everywhere, having = _attention(model, layout, experts), Counter(layer for layer, _ in experts)
    path_of, wanted = {module: path for path, module in model.named_modules()}, size_of(layout, experts)
    stack = [path_of[layer] for layer in decoder_layers(decoder_of(model))]
    found, size = set[str](), 0
    for layer in sorted(range(len(stack)), key=lambda layer: (-having[layer], layer)):
        own = {name for name in everywhere if name.startswith(f"{stack[layer]}.")}
        more = parameters_of(model, own)
        if found and more and abs(size + more - wanted) >= abs(size - wanted):
            break
        found, size = found | own, size + more
    return found


def _shared_experts(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    modules = [module for layer in layout.layers for module in layer.shared_experts]
    return _below(modules, model, f"{layout.model_type} has no shared experts")


def _attention_matrices(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    return [name for name in _attention(model, layout, experts) if model.get_parameter(name).ndim > 1]


def _expert_matrices(model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Collection[str]:
    return [name for layer in layout.layers for name, shape in layer.parameters.items() if len(shape) > 2]


def _below(modules: Iterable[str], model: PreTrainedModel, complaint: str) -> Collection[str]:
    found = {f"{at}.{name}" for at in modules for name, _ in model.get_submodule(at).named_parameters()}
    if not found:
        raise InputError(complaint)
    return found


SIZED_ATTENTION = "attention of the selection's size"
PARTS: dict[str, Names] = {
    "routers": _routers,
    "attention": _attention,
    SIZED_ATTENTION: _sized_attention,
    "shared experts": _shared_experts,
    "matrices of attention": _attention_matrices,
    "matrices of every expert": _expert_matrices,
    "everything": _everything,
}
"""What an arm may change beside the experts that it selects."""
SIZED = {SIZED_ATTENTION: "attention"}
"""The parts that are as large as a selection, each with what it is taken from."""


def names_of(parts: Iterable[str], model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair] = ()) -> set[str]:
    """The parameters that parts of a model are, by name; `experts` are what a part that is `SIZED` is as large as."""
    return {name for part in parts for name in PARTS[part](model, layout, experts)}


def size_of(layout: MoELayout, experts: Iterable[Pair]) -> int:
    """The number of parameters in these experts."""
    return sum(layout.layers[layout.position(layer)].parameters_per_expert for layer, _ in experts)


def parameters_of(model: PreTrainedModel, names: Collection[str]) -> int:
    """The number of parameters that these names stand for, spread by ZeRO-3 or not."""
    own = [parameter for name, parameter in model.named_parameters() if name in names]
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in own)


def whole(part: str) -> Trains:
    """Lets a part train, all of it."""

    @contextmanager
    def trains(model: PreTrainedModel, asked: Asked) -> Iterator[Trained]:
        from moe_safety.models.experts import frozen

        names = names_of([part], model, asked.layout, asked.experts)
        with frozen(model):
            chosen = {name: parameter for name, parameter in model.named_parameters() if name in names}
            for parameter in chosen.values():
                parameter.requires_grad_()
            yield Trained(chosen, partial(_remember, chosen.values()))

    return trains


routers, everything = whole("routers"), whole("everything")


def _remember(parameters: Collection[torch.nn.Parameter]) -> Callable[[], AbstractContextManager[None]]:
    kept = [parameter.detach().clone() for parameter in parameters]

    @contextmanager
    def as_remembered() -> Iterator[None]:
        now = [parameter.data for parameter in parameters]
        _show(parameters, kept)
        try:
            yield
        finally:
            _show(parameters, now)

    return as_remembered


def _show(parameters: Iterable[torch.nn.Parameter], values: Iterable[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data = value
