"""What `identify` reads, checked before anything is computed: the counts are this model's, and of these batches.

Methods that do not rank by routing work without `capture`; nothing is then said of routing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from moe_safety.batches.files import BATCHES, prompts_digest
from moe_safety.config import Config, IdentifyConfig, results_only
from moe_safety.effects import stage as effects
from moe_safety.errors import InputError
from moe_safety.gradients import stage as gradients
from moe_safety.identify.experts import Experts
from moe_safety.identify.places import BENIGN, CONTROL, LABELS, SAFE, Places, read_places
from moe_safety.identify.reduce import check_coverage
from moe_safety.identify.scored import SCORED, Scored, scores_of
from moe_safety.models.load import check_loadable, model_fingerprint
from moe_safety.routing import capture
from moe_safety.routing.table import layout_of
from moe_safety.rundir import RunDir, is_finished, summary_of
from moe_safety.rundir.stage import check_settings, manifest_name

_SETTINGS = {
    "compose": lambda config: {"batches": results_only(config.batches)},
    "capture": capture.settings_of,
    "gradients": gradients.settings_of,
    "effects": effects.settings_of,
}
"""Of the stages that this one goes on from."""


@dataclass(frozen=True)
class Routing:
    """The counts that `capture` left."""

    files: list[str]
    """Their parts, in order."""
    digest: str
    """One hash of all parts."""
    uncounted: int
    """Prompts without a counted token."""


@dataclass(frozen=True)
class Inputs:
    model: str
    experts: Experts
    places: Places
    scored: Scored | None
    """What another method than the routing's ranks by."""
    routing: Routing | None
    """Nothing where `capture` was not run."""

    @property
    def counts_hash(self) -> dict[str, str]:
        """Of the counts, by the name they have in manifests."""
        return {"routing": self.routing.digest} if self.routing else {}


def read_inputs(config: Config, run: RunDir, *, ranked: bool = True) -> Inputs:
    """Reads all but the counts themselves, and no scores where nothing is to be `ranked`."""
    settings, model = config.identify, model_fingerprint(config.model)
    routed = (ranked and settings.needs_routing) or is_finished(run, "capture")
    _check_configured(config, run, routed, ranked)
    experts = _captured_experts(run, model) if routed else Experts.of_layout(check_loadable(config.model))
    _check_size(settings, experts)
    places = read_places(run)
    if ranked:
        _check_labels(settings, places)
    scored = scores_of(run, settings, experts, places.batch_ids, model) if ranked else None
    return Inputs(model, experts, places, scored, _routing(run, places) if routed else None)


def _check_configured(config: Config, run: RunDir, routed: bool, ranked: bool) -> None:
    """Batches were made, and what is ranked by was found, in the way that the configuration says."""
    method = config.identify.method
    scored = [SCORED[method].stage] if ranked and method in SCORED else []
    for stage in ["compose", *(["capture"] if routed else []), *scored]:
        check_settings(run, stage, _SETTINGS[stage](config))


def _captured_experts(run: RunDir, model: str) -> Experts:
    captured = summary_of(run, "capture")
    _check_origin(run, model)
    _check_parts(run, captured["files"])
    return _experts(run, captured["files"], captured["layout"])


def _routing(run: RunDir, places: Places) -> Routing:
    files = summary_of(run, "capture")["files"]
    return Routing(files, captured_digest(run), check_coverage(run, files, places))


def captured_digest(run: RunDir) -> str:
    """One hash of all counts that `capture` left."""
    files, left = summary_of(run, "capture")["files"], run.read_json(manifest_name("capture"))["outputs"]
    return hashlib.sha256(json.dumps([left[name] for name in files]).encode()).hexdigest()


def _check_origin(run: RunDir, model: str) -> None:
    read = run.read_json(manifest_name("capture"))["inputs"]
    if read["model"] != model:
        raise InputError("the counts are of another model or tokenizer; run `capture` again", file=run.path("routing"))
    if prompts_digest(run) != read["prompts"]:
        raise InputError(
            f"the counts are not of the prompts in {BATCHES}; run `capture` again", file=run.path("routing")
        )


def _check_parts(run: RunDir, files: list[str]) -> None:
    """Each part must be what `capture` left."""
    left = run.read_json(manifest_name("capture"))["outputs"]
    for name in files:
        if not run.exists(name) or run.digest(name) != left[name]:
            raise InputError("is not what `capture` wrote; run `capture` again", file=run.path(name))


def _experts(run: RunDir, files: list[str], fingerprint: str) -> Experts:
    """All parts have one layout."""
    for name in files:
        with run.open_parquet(name) as part:
            layout = layout_of(part.schema_arrow)
        if layout.fingerprint() != fingerprint:
            raise InputError("holds counts of a model with another layout", file=run.path(name))
    return Experts.of_layout(layout)


def _check_size(settings: IdentifyConfig, experts: Experts) -> None:
    if settings.top_p is None and settings.top_k > len(experts):
        raise InputError(
            f"{settings.top_k} experts are asked for, and the model has {len(experts)}", key="identify.top_k"
        )


def _check_labels(settings: IdentifyConfig, places: Places) -> None:
    """What the score compares must stand in the batches."""
    if not settings.needs_routing:
        return
    if not places.has(SAFE):
        raise InputError("no safe prompt stands in the batches to compare with", key="batches.safe_ratio")
    for label in (CONTROL, BENIGN):
        if settings.ranked_by == "risk_diff_control" and not places.has(label):
            missing = LABELS[label]
            raise InputError(f"risk_diff_control needs {missing} prompts in the batches", key="identify.score")
