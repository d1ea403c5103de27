"""Every name that a configuration may hold, known where a trial reads its own: in a process of its own."""

import moe_safety.arms
import moe_safety.generation
import moe_safety.inputs
import moe_safety.judges
import moe_safety.scores  # noqa: F401
