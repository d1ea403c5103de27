"""What identification finds on a hardened model: whether the attack still reaches experts that plain goals do not."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.evaluate.evaluated_models import Subject
from moe_safety.identify import read_selection
from moe_safety.identify.identify import select_by
from moe_safety.jobs import Job
from moe_safety.pipeline import BATCHES, PROMPTS, RISK, SELECTION, run_one
from moe_safety.routing.capture import capture_job
from moe_safety.rundir import RunDir


def recapture_job(config: Config, run: RunDir, subject: Subject, folder: str) -> Job:
    """The subject's capture, for the pool that examines it too."""
    return capture_job(_nested(config, run, subject, folder), run, f"{folder}/")


def by_routing(config: Config) -> Config:
    """What a model is identified anew by: the run's own rule where that is one of routing, else routing's first."""
    if _is_by_routing(config):
        return config
    return config.model_copy(
        update={"identify": config.identify.model_copy(update={"method": "routing", "score": None})}
    )


def _is_by_routing(config: Config) -> bool:
    return config.identify.needs_routing and not config.identify.by_chance


def selection_of_base(config: Config) -> str:
    """What the same rule selects on the base."""
    return SELECTION if _is_by_routing(config) else select_by(by_routing(config), "routing")


def reidentify(config: Config, run: RunDir, subject: Subject, folder: str) -> dict[str, Any]:
    """Captures and identifies by routing in `folder`, a run directory of its own with the same batches."""
    nested = _nested(config, run, subject, folder)
    # A page of lines for every arm would hide those about the arms.
    run_one("capture", nested, quiet=True)
    run_one("identify", nested, quiet=True, pictures=False)
    found = set(read_selection(run, f"{folder}/{SELECTION}").experts)
    base = set(read_selection(run, selection_of_base(config)).experts)
    return {
        "experts": sorted(found),
        "kept": len(found & base),
        "new": len(found - base),
        "highest_risk_diff": _highest(run, f"{folder}/{RISK}"),
        "highest_risk_diff_of_base": _highest(run, RISK),
    }


def _nested(config: Config, run: RunDir, subject: Subject, folder: str) -> Config:
    for name in (PROMPTS, BATCHES):
        run.write_bytes(f"{folder}/{name}", run.read_bytes(name))
    counts_alone = config.capture.model_copy(update={"per_token": False})
    own = {"run_dir": run.uri_of(folder), "model": subject.model, "capture": counts_alone}
    return by_routing(config).model_copy(update=own)


def _highest(run: RunDir, table: str) -> float | None:
    """Nothing where nothing was captured. An expert whose rates are not known has no difference."""
    if not run.exists(table):
        return None
    found = run.read_table(table, ["risk_diff"])["risk_diff"].to_pylist()
    return max((value for value in found if value is not None and value == value), default=None)
