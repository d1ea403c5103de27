"""What every stage has in common."""

import subprocess
import sys

from moe_safety.pipeline import STAGES

HEAVY = """
import sys
from importlib import import_module

for module in sys.argv[1:]:
    import_module(module)
print(*sorted({"torch", "transformers", "ray", "scipy", "matplotlib"} & sys.modules.keys()))
"""


def test_no_stage_brings_torch_or_ray_along_before_there_is_work():
    """To find that nothing is to be done is a matter of seconds."""
    modules = [place.split(":")[0] for place, _ in STAGES.values()]
    found = subprocess.run([sys.executable, "-c", HEAVY, *modules], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
