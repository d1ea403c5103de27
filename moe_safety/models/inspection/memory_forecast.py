"""How much GPU memory capture, selective and full training will take, as explicit sums of named parts.

With b bytes per number (2 in bfloat16), P parameters, C parameters in the chosen experts and T tokens per step:

* weights         b·P
* capture         + the largest layer's buffers in one forward pass: b·T·(linear + routed + routed inputs) + 4·T·norm;
                  the language-model head is skipped
* what trains     full: all P, selective: the C of a compact copy of the chosen experts' rows (b·C for the copy itself);
                  for each, a gradient of b bytes, a float32 master (none where the weights are float32), two float32
                  moments and, selective, a count of steps of 2 bytes
* activations     selective: per layer from the lowest trained one up b·T·(linear + norm + kept): what linear layers
                  put out, the inputs of the norms, and of the routed experts the first products and the gate's output;
                  the gate's own steps are taken again. Full: b·T·(2·linear + routed + routed inputs) + 4·T·norm of
                  every layer, as torch keeps them. With checkpointing one hidden state per layer and the largest
                  layer's activations
* logits          T·vocabulary·(b + 12): logits, and in float32 a copy, its log-softmax and the gradient
* ZeRO            stage 1 divides masters and moments by the number of workers, stage 2 also gradients, stage 3 also
                  weights, but for the largest layer, which is gathered whole while it runs

`linear`, `norm`, `kept` and `routed` are widths per token (sizes.py). T counts one worker's tokens. What an allocator
reserves beyond this, a CUDA context and communication buffers come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from moe_safety.models.inspection.sizes import LayerSizes, Sizes

Training = Literal["selective", "full"]
Task = Literal["capture"] | Training


@dataclass(frozen=True)
class Load:
    """What is trained, and on how much data at once."""

    chosen: int = 50
    """Experts that selective training trains."""
    tokens: int = 16 * 256
    """Tokens of one worker's step, padding included."""
    dtype_bytes: int = 2
    checkpointing: bool = False
    lowest_layer: int = 0
    """Decoder layer of the lowest chosen expert; the backward pass stops there."""


@dataclass(frozen=True)
class Forecast:
    """Bytes per GPU."""

    task: Task
    stage: int
    workers: int
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """The bytes of all parts together."""
        return sum(self.parts.values())


def forecast(
    sizes: Sizes, load: Load | None = None, stages: Iterable[int] = range(4), workers: Iterable[int] = (1, 2, 4, 8)
) -> list[Forecast]:
    """Capture once, then selective and full training for every ZeRO stage and number of workers."""
    load = load or Load()
    runs = [(stage, count) for stage in stages for count in workers]
    return [capture_memory(sizes, load)] + [
        training_memory(sizes, load, task, stage, count) for task in ("selective", "full") for stage, count in runs
    ]


def capture_memory(sizes: Sizes, load: Load) -> Forecast:
    """One replica that reads routing."""
    buffers = max(
        _bytes(layer, load, linear=1) + load.dtype_bytes * load.tokens * layer.routed_input_width
        for layer in sizes.layers
    )
    weights = load.dtype_bytes * sizes.parameters
    return Forecast("capture", 0, 1, {"weights": weights, "buffers": buffers})


def training_memory(sizes: Sizes, load: Load, task: Training, stage: int, workers: int) -> Forecast:
    """One worker of a training run."""
    b = load.dtype_bytes
    selective = task == "selective"
    trained = load.chosen * sizes.parameters_per_expert if selective else sizes.parameters
    shared_by = {name: workers if stage >= first else 1 for name, first in (("moments", 1), ("gradients", 2))}
    weights = b * (sizes.parameters + (trained if selective else 0))
    gathered = 0
    if stage >= 3 and workers > 1:
        weights //= workers
        gathered = b * max(layer.parameters for layer in sizes.layers)
    return Forecast(
        task,
        stage,
        workers,
        {
            "weights": weights,
            "gathered layer": gathered,
            "gradients": b * trained // shared_by["gradients"],
            "float32 masters": (4 * trained if b < 4 else 0) // shared_by["moments"],
            "moments": (10 if selective else 8) * trained // shared_by["moments"],
            "activations": sum(_activations(sizes, load, selective=selective)),
            "logits": load.tokens * sizes.vocab_size * (b + 12),
        },
    )


def _activations(sizes: Sizes, load: Load, *, selective: bool) -> Iterator[int]:
    lowest = load.lowest_layer if selective else 0
    kept = [
        load.tokens * load.dtype_bytes * (layer.linear_width + layer.norm_width + layer.routed_kept_width)
        if selective
        else _bytes(layer, load, linear=2) + load.dtype_bytes * load.tokens * layer.routed_input_width
        for layer in sizes.layers
        if layer.index >= lowest
    ]
    if load.checkpointing:
        yield load.dtype_bytes * load.tokens * sizes.hidden_size * len(kept)
        yield max(kept)
    else:
        yield from kept


def _bytes(layer: LayerSizes, load: Load, *, linear: int) -> int:
    numbers = linear * layer.linear_width + layer.routed_width
    return load.tokens * (load.dtype_bytes * numbers + 4 * layer.norm_width)
