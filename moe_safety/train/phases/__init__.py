"""What a step does: the expert phase repairs experts, the router phase teaches routers."""

from moe_safety.train.phases.base import Backward, Phase
from moe_safety.train.phases.experts import ExpertPhase
from moe_safety.train.phases.router import RouterPhase

__all__ = ["Backward", "ExpertPhase", "Phase", "RouterPhase"]
