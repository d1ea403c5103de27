"""The untouched model, which all arms are set beside."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.config import ARMS

ARMS.add(Arm("base", "Nothing was done: this is the model as it came."))
