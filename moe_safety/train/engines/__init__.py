"""What turns losses into steps: plain PyTorch, or DeepSpeed."""

from moe_safety.train.engines.base import Engine, Tensors
from moe_safety.train.engines.plain import PlainEngine

__all__ = ["Engine", "PlainEngine", "Tensors"]
