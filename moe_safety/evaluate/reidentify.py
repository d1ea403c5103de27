"""What identification finds on a hardened model: whether the attack still reaches experts that plain goals do not."""

from __future__ import annotations

from typing import Any

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config
from moe_safety.evaluate.subjects import Subject
from moe_safety.identify.files import RISK
from moe_safety.identify.places import PROMPTS
from moe_safety.identify.selection import SELECTION, read_selection
from moe_safety.rundir import RunDir


def reidentify(config: Config, run: RunDir, subject: Subject, folder: str) -> dict[str, Any]:
    """Captures and identifies by routing in `folder`, a run directory of its own with the same batches."""
    from moe_safety.pipeline import run_one

    for name in (PROMPTS, BATCHES):
        run.write_bytes(f"{folder}/{name}", run.read_bytes(name))
    where = run.path(folder) if run.is_local else f"{run.uri.rstrip('/')}/{folder}"
    by_routing = config.identify.model_copy(update={"method": "routing", "score": None})
    nested = config.model_copy(update={"run_dir": where, "model": subject.model, "identify": by_routing})
    for stage in ("capture", "identify"):
        run_one(stage, nested)
    found = set(read_selection(run, f"{folder}/{SELECTION}").experts)
    base = set(read_selection(run).experts)
    return {
        "experts": sorted(found),
        "kept": len(found & base),
        "new": len(found - base),
        "highest_risk_diff": max(run.read_table(f"{folder}/{RISK}", ["risk_diff"])["risk_diff"].to_pylist()),
        "highest_risk_diff_of_base": _highest(run),
    }


def _highest(run: RunDir) -> float | None:
    return max(run.read_table(RISK, ["risk_diff"])["risk_diff"].to_pylist()) if run.exists(RISK) else None
