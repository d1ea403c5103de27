"""Sweeps over selections and trainings."""

# A trial reads its configuration in a process of its own, where every name has to be known.
import moe_safety.arms
import moe_safety.generation
import moe_safety.inputs
import moe_safety.judges
import moe_safety.scores  # noqa: F401
