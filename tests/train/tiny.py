"""A tiny model, tiny batches with masks of their own, and workers that are plain processes."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import Dataset

from moe_safety.batches import Example
from moe_safety.config import TrainConfig
from moe_safety.errors import RunError
from moe_safety.models import inspect_model
from moe_safety.models.experts import as_they_are, frozen, gradient_magnitudes, selective_experts, use_our_experts
from moe_safety.models.kernels import card, formulas
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.routers import routers
from moe_safety.rundir import RunDir
from moe_safety.train.checkpoint import Checkpoints
from moe_safety.train.data import rows_of
from moe_safety.train.engines import PlainEngine
from moe_safety.train.engines.deepspeed import DeepSpeedEngine, deepspeed_config
from moe_safety.train.engines.spread import gathered
from moe_safety.train.float32_masters import rounding
from moe_safety.train.loop import Loop
from moe_safety.train.optimizer import LazyAdamW
from moe_safety.train.phases import ExpertPhase, RouterPhase
from moe_safety.train.world import World
from tests.families import build

BATCHES, ROWS = 5, 3


class TinyData(Dataset):
    """Rows of random tokens; each batch has a safe one for the router phase."""

    def __init__(self, batches: int = BATCHES) -> None:
        generator = torch.Generator().manual_seed(3)
        self.examples = [
            Example(
                batch,
                place,
                "safe" if place == 1 else "unsafe",
                torch.randint(3, 90, (3 + (batch + place) % 4,), generator=generator).tolist(),
                torch.randint(3, 90, (2 + place,), generator=generator).tolist(),
            )
            for batch in range(batches)
            for place in range(ROWS)
        ]
        self.batch_idx = [example.batch_idx for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: int) -> Example:
        return self.examples[row]


def masks_of(layout, batches: int = BATCHES) -> dict[int, list[tuple[int, int]]]:
    """Each batch its own three experts, some in common."""
    everyone = layout.experts()
    return {
        batch: sorted({everyone[(5 * batch + 7 * n) % len(everyone)] for n in range(3)}) for batch in range(batches)
    }


@dataclass
class Case:
    """One training run."""

    family: str = "olmoe"
    stage: int = 0
    """ZeRO stage; 0 is plain PyTorch."""
    per_worker: int = 1
    epochs: int = 4
    rate: float = 1e-2
    clip: float | None = None
    optimizer: Any = LazyAdamW
    phase: str = "experts"
    """What trains: the experts of the masks, or the routers."""
    masking: str = "gradient"
    replay: bool = False
    fused: bool = False
    """As on a GPU, in compiled code."""
    packed: bool = False
    """Rows end to end in one line, in place of padding."""
    labels: tuple[str, ...] | None = None
    """The kinds of row that are learned; all of them unless given."""
    micro: int | None = None
    dtype: torch.dtype = torch.float32
    stop_after: int | None = None
    signal_after: tuple[int, int] | None = None
    """After so many steps this signal comes."""
    fails_on: int | None = None
    """The worker that meets an error after its first step."""
    checkpoint_every: int = 1000
    folder: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def compiled() -> list[str]:
    """The operations that DeepSpeed has compiled and loaded in this process."""
    from deepspeed.ops.op_builder.builder import OpBuilder

    return sorted(OpBuilder._loaded_ops)


def weights_of(model, layout, selective, gather) -> dict[str, torch.Tensor]:
    """Every tensor of the model as it stands, trained rows in their places."""
    own = dict(selective.named_parameters()) if selective else {}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if ".trained_" in name:
            continue
        with gather([tensor] if isinstance(tensor, torch.nn.Parameter) else []):
            state[name] = tensor.detach().clone()
    for name, rows in own.items():
        layer = next(layer for layer in layout.layers if name in layer.parameters)
        with gather([rows]):
            state[name][[expert for index, expert in selective.experts if index == layer.index]] = rows.detach()
    return state


def felt_experts(model, layout, masks) -> set[tuple[int, int]]:
    """Experts of the masks that the answers of their batch reach in the first model."""
    found, data = set(), TinyData()
    for batch, experts in masks.items():
        examples = [example for example in data.examples if example.batch_idx == batch]
        scores = gradient_magnitudes(model, [rows_of(examples, torch.device("cpu"))], layout=layout).scores()
        found |= {(layer, expert) for layer, expert in experts if scores[layout.position(layer), expert] > 0}
    return found


def _training(case, model, layout, union, gather, stack):
    if case.phase == "experts":
        selective = stack.enter_context(selective_experts(model, union, layout=layout, gather=gather))
        return selective, dict(selective.named_parameters())
    stack.enter_context(frozen(model))
    names = routers(model, layout)
    chosen = {name: parameter for name, parameter in model.named_parameters() if name in names}
    for parameter in chosen.values():
        parameter.requires_grad_()
    return None, chosen


def _phase(case, model, layout, selective, masks, stack):
    if case.phase == "router":
        return RouterPhase(
            model, layout, form="forward", counted="all", micro_batch_tokens=case.micro, packed=case.packed
        )
    return ExpertPhase(
        model,
        layout,
        stack,
        selective=selective,
        masks=masks,
        masking=case.masking,
        replay=case.replay,
        labels=case.labels,
        micro_batch_tokens=case.micro,
        packed=case.packed,
    )


def run_case(case: Case) -> dict[str, Any]:
    """Trains, and returns what every step left: the weights before the first and after each."""
    torch.manual_seed(0)
    world = World()
    model = use_our_experts(build(case.family)).eval().to(case.dtype)
    layout = inspect_model(model)
    masks = masks_of(layout)
    felt = felt_experts(model, layout, masks)
    gather = gathered if case.stage == 3 else as_they_are
    with ExitStack() as stack:
        union = sorted(set().union(*masks.values()))
        selective, trained = _training(case, model, layout, union, gather, stack)
        optimizer = case.optimizer(list(trained.values()), lr=case.rate, weight_decay=0.1)
        settings = TrainConfig(
            num_epochs=case.epochs,
            learning_rate=case.rate,
            weight_decay=0.1,
            batches_per_worker=case.per_worker,
            checkpoint_every=case.checkpoint_every,
            **case.settings,
        )
        before = weights_of(model, layout, selective, as_they_are)
        if case.stage:
            # DeepSpeed keeps small parameters whole unless told otherwise, and here all are small.
            zero = {"stage": case.stage} | ({"stage3_param_persistence_threshold": 0} if case.stage == 3 else {})
            config = deepspeed_config({"zero_optimization": zero}, case.clip, case.dtype)
            engine = DeepSpeedEngine(model, optimizer, config, world)
        else:
            engine = PlainEngine(trained, optimizer, case.clip, world)
        if case.fused:
            # Formulas run where kernels would on a GPU.
            stack.enter_context(patch.object(card, "kernels", lambda tensor: formulas))
            fuse(model)
        phase = _phase(case, model, layout, selective, masks, stack)
        history, rows = [before], []

        class Stopped(Exception):
            pass

        def on_step(row):
            if case.fails_on == world.rank:
                raise RunError("of this worker alone")
            rows.append(row)
            history.append(weights_of(model, layout, selective, gather))
            if case.signal_after and case.signal_after[0] == len(rows):
                signal.raise_signal(case.signal_after[1])
            if case.stop_after == len(rows):
                raise Stopped

        checkpoints = Checkpoints(RunDir(case.folder or "unused"), "checkpoints", "same", world)
        loop = Loop(
            phase=phase,
            engine=engine,
            data=TinyData(),
            settings=settings,
            peak_rate=case.rate,
            epochs=case.epochs,
            seed=1,
            weights={},
            checkpoints=checkpoints,
            world=world,
            on_step=on_step,
        )
        with suppress(Stopped):
            rows = loop.run().log
        rates = sum(row["learning_rate"] for row in rows)
        rounded = (
            rounding({name: before[name] for name in trained}, trained, engine, gather, rates) if not selective else {}
        )
        stack.close()
        after = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            with gather([tensor] if isinstance(tensor, torch.nn.Parameter) else []):
                after[name] = tensor.detach().clone()
    return {
        "history": history,
        "log": rows,
        "masks": masks,
        "layout": layout,
        "felt": felt,
        "after": after,
        "rounding": rounded,
        "compiled": compiled() if case.stage else [],
    }


def _process(
    rank: int, function: Callable[..., Any], given: tuple[Any, ...], workers: int, port: int, out: str
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(workers),
        "DS_ACCELERATOR": "cpu",
    }
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    found = function(*given)
    if rank == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()


def in_workers(function: Callable[..., Any], *given: Any, workers: int, tmp_path: Path) -> Any:
    """What the function returns in the first of as many processes, which it may talk to the others from."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = str(tmp_path / f"found-{port}.pt")
    mp.spawn(_process, (function, given, workers, port, out), nprocs=workers)
    return torch.load(out, weights_only=False)


def run_workers(cases: list[Case], workers: int, tmp_path: Path) -> list[dict[str, Any]]:
    """`run_case` in processes of their own, one case after the other."""
    return in_workers(_run_cases, cases, workers=workers, tmp_path=tmp_path)


def _run_cases(cases: list[Case]) -> list[dict[str, Any]]:
    return [run_case(case) for case in cases]


def illegal_moves(found: dict[str, Any]) -> tuple[list[str], set[tuple[int, int]]]:
    """What moved in a step without standing in the masks of its batches, and who moved at all."""
    layout, wrong, moved = found["layout"], [], set()
    fused = {name: layer for layer in layout.layers for name in layer.parameters}
    for step, row in enumerate(found["log"]):
        before, after = found["history"][step], found["history"][step + 1]
        allowed = set().union(*(found["masks"][batch] for batch in row["batch_idx"]))
        for name, tensor in after.items():
            if name not in fused:
                if not torch.equal(tensor, before[name]):
                    wrong.append(f"step {step}: {name}")
                continue
            changed = (tensor != before[name]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
            pairs = {(fused[name].index, expert) for expert in changed}
            moved |= pairs
            wrong += [f"step {step}: {name} {pair}" for pair in sorted(pairs - allowed)]
    return wrong, moved


def spoiled_in_its_fourth_pass(monkeypatch, folder):
    """Runs a case whose gradient is no number from then on, and expects the error that names the last checkpoint, of
    the second step. Returns what stands among the checkpoints."""
    real, steps = PlainEngine.backward, []

    def sometimes(self, loss, last):
        real(self, loss, last)
        steps.append(last)
        if len(steps) == 4:
            next(iter(self.trained.values())).grad[0, 0, 0] = math.nan

    monkeypatch.setattr(PlainEngine, "backward", sometimes)
    with pytest.raises(RunError, match=r"gradient of batch \d is nan; .*last checkpoint: .*step-00000002$"):
        run_case(Case(folder=str(folder), checkpoint_every=2))
    assert len(TinyData()) > len(steps) == 4
    return sorted(path.name for path in (folder / "checkpoints").iterdir())
