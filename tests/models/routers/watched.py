"""Watching and forcing the routers of tiny models, for tests of what changes their choice."""

from contextlib import contextmanager
from functools import partial

import torch
from torch.overrides import TorchFunctionMode

from moe_safety.models import inspect_model
from moe_safety.models.experts import use_our_experts
from tests.families import build

IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(3))
_AT_REST = ("correction_bias", "expert_bias", "per_expert_scale")


def lively(name, dtype=torch.float32, **settings):
    """A family's tiny model whose routers are decided, and whose biases and scales, zeros and ones at first, count."""
    model = use_our_experts(build(name).to(dtype))
    generator = torch.Generator().manual_seed(4)
    layout = inspect_model(model)
    for layer in layout.layers:
        router = model.get_submodule(layer.router)
        for setting, value in settings.items():
            setattr(router, setting, value)
        for path, parameter in router.named_parameters():
            if parameter.ndim == 2:
                parameter.data.mul_(0.5 / parameter.data.std())
            elif path == "bias":
                parameter.data.normal_(std=0.2, generator=generator)
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if any(word in path for word in _AT_REST):
            tensor.data.add_(torch.randn(tensor.shape, generator=generator).to(tensor.dtype), alpha=0.2)
    return model, layout


@contextmanager
def answers(model, layout):
    """Every router call from here on, by layer: (router, arguments, answer). Sees what contexts entered earlier made of
    the answer, and not what later ones will."""
    seen = [[] for _ in layout.layers]

    def note(position, router, args, answer):
        seen[position].append((router, args, answer))

    handles = [
        model.get_submodule(layer.router).register_forward_hook(partial(note, position))
        for position, layer in enumerate(layout.layers)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class Forced(TorchFunctionMode):
    """Inside, a top-k over all experts of each token finds `index`: the stock router's own code weighs it."""

    def __init__(self, index, experts):
        super().__init__()
        self.index, self.experts = index, experts

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.topk, torch.Tensor.topk) and args[0].ndim == 2 and args[0].shape[1] == self.experts:
            return torch.return_types.topk((args[0].gather(1, self.index), self.index))
        return func(*args, **(kwargs or {}))
