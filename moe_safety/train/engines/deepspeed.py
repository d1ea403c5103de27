"""DeepSpeed ZeRO: gradients and optimizer state, and at stage 3 the parameters too, are spread over the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.errors import RunError
from moe_safety.train.engines.base import Tensors
from moe_safety.train.optimizer import LazyAdamW
from moe_safety.train.world import World


def deepspeed_config(given: int | Mapping[str, Any], clip: float | None, dtype: torch.dtype) -> dict[str, Any]:
    """The whole configuration from a ZeRO stage or the user's own, with what must hold put in."""
    own: dict[str, Any] = {"zero_optimization": {"stage": given}} if isinstance(given, int) else {**given}
    zero = {**own.get("zero_optimization", {})}
    # DeepSpeed's own choice of leaf modules breaks a trainable tensor inside such a block.
    zero["leaf_module"] = {"classes": []}
    return own | {
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Its default is 1.0, so not clipping has to be said.
        "gradient_clipping": clip or 0.0,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
    }


def type_of(trained: Tensors) -> torch.dtype:
    """The type of what trains, which need not be the model's: some families keep routers in float32."""
    types = sorted({parameter.dtype for parameter in trained.values()}, key=str)
    if len(types) > 1:
        raise RunError(
            f"DeepSpeed gives all that trains one type, and this model keeps some of it in {types[-1]}, the rest in "
            f"{types[0]}: set model.dtype: float32, or leave train.deepspeed out".replace("torch.", "")
        )
    return types[0]


def compile_nothing() -> None:
    """Keeps DeepSpeed from compiling a reduction on processors that only its inference calls. The compiler takes a
    minute, and one that is killed leaves a lock that every later process would wait for."""
    # By its name: as an attribute of its package it is hidden behind torch itself.
    vars(import_module("deepspeed.comm.torch"))["build_shm_op"] = lambda: None


class DeepSpeedEngine:
    """The engine that trains by DeepSpeed, ZeRO stages 1 to 3."""

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: LazyAdamW | torch.optim.AdamW,
        config: dict[str, Any],
        world: World,
    ) -> None:
        import deepspeed

        compile_nothing()
        with _keeping_types(model):
            self.engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.engine.module.eval()
        self.world = world

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        self._begin_pass()
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed takes the mean over workers where the loop wants the sum.
        self.engine.backward(loss * self.world.size, scale_wrt_gas=False)

    def _begin_pass(self) -> None:
        """The engine's own forward would say it, but the model is run without that. Unless it is said, ZeRO-3 takes
        each backward pass of a step for the first, and forgets the gradients of those before."""
        from deepspeed.runtime.base_optimizer import ZeROOptimizer

        if isinstance(self.engine.optimizer, ZeROOptimizer):
            self.engine.optimizer.clear_backward_seen_flag()

    def step(self, learning_rate: float) -> float:
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)

    def save(self, folder: Path) -> None:
        refused = None
        try:
            self.engine.save_checkpoint(str(folder), tag="state", save_latest=False, exclude_frozen_parameters=True)
        except RuntimeError as error:
            # The two ways in which `torch.save` says that the disk does not take what it writes.
            if not any(sign in str(error) for sign in ("write()", "inline_container")):
                raise
            refused = OSError(f"cannot be written, is the disk full? torch says: {error}")
        # Without the error's frames, which hold the file open and so keep its place on the disk.
        if refused:
            raise refused

    def load(self, folder: Path) -> None:
        loaded, _ = self.engine.load_checkpoint(str(folder), tag="state", load_module_strict=False)
        if loaded is None:
            raise RunError(f"{folder}: DeepSpeed does not find its checkpoint there")


@contextmanager
def _keeping_types(model: PreTrainedModel) -> Iterator[None]:
    """DeepSpeed casts a whole model to bfloat16, also what its family keeps in float32."""
    tensors = [*model.parameters(), *model.buffers()]
    wide = [(tensor, tensor.data) for tensor in tensors if tensor.dtype == torch.float32 and not tensor.requires_grad]
    yield
    for tensor, data in wide:
        if tensor.dtype != data.dtype:
            tensor.data = data.to(tensor.device)
