"""An inspection as plain lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import fill

from moe_safety.models.inspection.cluster_shapes import FREE, Enough
from moe_safety.models.inspection.host_memory import HostMemory
from moe_safety.models.inspection.inspect import Inspection
from moe_safety.models.inspection.memory_forecast import Forecast, Load
from moe_safety.models.inspection.sizes import Sizes
from moe_safety.models.layout import MoELayer, MoELayout


def describe(inspection: Inspection) -> str:
    """What `moe-safety inspect` prints."""
    layout = inspection.layout
    facts = [
        ("model", f"{inspection.model} ({inspection.architecture}, {inspection.dtype})"),
        ("decoder layers", f"{layout.num_decoder_layers}, hidden size {layout.hidden_size}"),
        ("MoE layers", f"{layout.n_moe_layers}: {_ranges([layer.index for layer in layout.layers])}"),
        ("dense layers", _ranges(layout.dense_layers) or "none"),
        ("experts", f"{len(layout.experts()):,}"),
        *_kinds(layout),
        ("parameters", _parameters(inspection.sizes)),
    ]
    lines = [fill(f"{name:<16}{text}", 80, subsequent_indent=" " * 16) for name, text in facts]
    lines += ["", *_memory(inspection.load, inspection.forecasts), "", *_host(inspection.host)]
    lines += ["", *_enough(inspection.enough)]
    return "\n".join([*lines, *(fill(f"warning: {one}", 80) for one in inspection.warnings)])


def _kinds(layout: MoELayout) -> Iterator[tuple[str, str]]:
    """Layers that differ in nothing but their index are told of once."""

    def kind(layer: MoELayer) -> tuple[object, ...]:
        return layer.num_experts, layer.top_k, tuple(layer.parameters.values()), len(layer.shared_experts)

    for _, group in groupby(layout.layers, key=kind):
        layers = list(group)
        first = layers[0]
        where = f"layer {_ranges([layer.index for layer in layers])}"
        traits = ["transposed"] * first.transposed + ["biases"] * first.has_bias + ["no gate"] * (not first.has_gate)
        traits += ["gate and up interleaved"] * (first.has_gate and not first.concatenated)
        yield where, f"{first.num_experts} experts, top {first.top_k}" + "".join(f", {trait}" for trait in traits)
        yield "  router", first.router
        for name, shape in first.parameters.items():
            yield "  experts", f"{name} {list(shape)}"
        for name in first.shared_experts:
            yield "  shared", name


def _parameters(sizes: Sizes) -> str:
    parts = {
        "total": sizes.parameters,
        "in experts": sizes.expert_parameters,
        "per expert": sizes.parameters_per_expert,
        "active per token": sizes.active_parameters,
    }
    return ", ".join(f"{count / 1e6:,.2f} M {name}" for name, count in parts.items())


def _memory(load: Load, forecasts: Sequence[Forecast]) -> Iterator[str]:
    checkpointing = ", activation checkpointing" if load.checkpointing else ""
    yield f"GPU memory per worker in GB ({load.tokens:,} tokens a step, {load.chosen} experts chosen{checkpointing})"
    workers = sorted({entry.workers for entry in forecasts})
    yield f"{'workers':<20}" + "".join(f"{count:>10}" for count in workers)
    for (task, stage), row in groupby(forecasts, key=lambda entry: (entry.task, entry.stage)):
        name = task if task == "capture" else f"{task}, ZeRO-{stage}" if stage else task
        yield f"{name:<20}" + "".join(f"{entry.total / 1e9:>10.1f}" for entry in row)
    for _, entries in groupby(forecasts, key=lambda entry: entry.task):
        first = next(entries)
        parts = (f"{name} {size / 1e9:.1f}" for name, size in first.parts.items() if size)
        yield fill(f"{first.task}, 1 worker: {' + '.join(parts)}", 80, subsequent_indent="  ")


def _host(found: Sequence[HostMemory]) -> Iterator[str]:
    yield "CPU memory per process in GB"
    yield f"{'':<20}{'with a card':>14}{'without':>10}"
    for entry in found:
        yield f"{entry.task:<20}{entry.with_card / 1e9:>14.1f}{entry.without / 1e9:>10.1f}"


def _enough(found: Sequence[Enough]) -> Iterator[str]:
    yield f"cards that are enough, {FREE:.0%} of each left free (stages as capture; training)"
    yield f"{'card':<9}{'capture':<9}{'selective':<26}full"
    for one in found:
        cells = ["more than 8" if shape is None else str(shape) for shape in (one.selective, one.full)]
        yield f"{f'{one.card_gb:g} GB':<9}{one.capture or '> 8'!s:<9}{cells[0]:<26}{cells[1]}"


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3, 5` for 0, 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
