"""Every declaration that ships with the program, imported, so that a configuration may name it. The command line, which
is the last room, imports this before it parses; scripts and notebooks take `load_config` from here."""

from __future__ import annotations

import moe_safety.arms
import moe_safety.generation
import moe_safety.inputs
import moe_safety.judges
import moe_safety.scores  # noqa: F401
from moe_safety.config import load_config

__all__ = ["load_config"]
