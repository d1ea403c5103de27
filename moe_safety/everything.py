"""Every declaration that ships with the program, imported, so that a configuration may name it. The command line, which
is the last room, imports this before it parses; scripts and notebooks take `load_config` from here."""

from __future__ import annotations

# isort: off
# In the order in which stages are run where nothing else decides.
import moe_safety.inputs
import moe_safety.judges
import moe_safety.generation
import moe_safety.batches
import moe_safety.routing
import moe_safety.gradients
import moe_safety.effects
import moe_safety.scores
import moe_safety.identify
import moe_safety.arms
import moe_safety.train
import moe_safety.evaluate
import moe_safety.report  # noqa: F401

# isort: on
from moe_safety.config import load_config

__all__ = ["load_config"]
