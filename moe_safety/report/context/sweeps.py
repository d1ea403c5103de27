"""What sweeps found: their trials with what each tried and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from moe_safety.config import MEASURES, Sweep
from moe_safety.rundir import RunDir
from moe_safety.tune.outcome import RESULTS

DRAWN = 200
"""Of more trials, as many are drawn: the best ones, and others at even steps."""
TABLED = 10


@dataclass(frozen=True)
class Trial:
    """A trial of a sweep."""

    name: str
    status: str
    settings: dict[str, Any]
    """By key; a choice as its writer put it."""
    measures: dict[str, float | None]
    on_front: bool


@dataclass(frozen=True)
class Swept:
    """One sweep."""

    name: str
    sweep: Sweep
    trials: list[Trial]
    """Best first, then those that were stopped or failed."""
    failures: dict[str, int]
    """How many failed, by what they said."""
    harm_is_judged: bool = False
    """Whether attack success is harm, and not any answer."""

    @property
    def best(self) -> Trial:
        """The best trial."""
        return self.trials[0]

    @property
    def measured(self) -> list[str]:
        """The measures that some trial has, the objectives first."""
        names = [*self.sweep.goals, *(name for name in MEASURES[self.sweep.kind] if name not in self.sweep.goals)]
        return [name for name in names if any(trial.measures[name] is not None for trial in self.trials)]

    @property
    def trade(self) -> tuple[str, str]:
        """The two measures that are drawn against each other."""
        if len(self.sweep.goals) > 1:
            return self.sweep.goals[0], self.sweep.goals[1]
        return ("asr", "over_refusal") if self.sweep.kind == "training" else ("auroc", "stability")

    @cached_property
    def finished(self) -> list[Trial]:
        """The trials that finished, best first."""
        return [trial for trial in self.trials if trial.status == "finished"]

    @cached_property
    def drawn(self) -> list[Trial]:
        """The trials that pictures show: the best, and some of the others."""
        best, others = self.finished[: DRAWN // 2], self.finished[DRAWN // 2 :]
        return best + others[:: max(1, -(-len(others) // (DRAWN // 2)))]

    @property
    def tabled(self) -> list[Trial]:
        """The trials that the table shows."""
        return self.finished[:TABLED]


def read_sweeps(run: RunDir, manifests: Mapping[str, Mapping[str, Any]]) -> list[Swept]:
    """Every sweep that came to its end, in order of time."""
    return [_read(run, stage, one) for stage, one in manifests.items() if is_sweep(stage)]


def is_sweep(stage: str) -> bool:
    """Whether a stage is one, and not some trial's part of one."""
    return stage.startswith("tune/")


def results_of(stage: str) -> str:
    """The name of a sweep's results."""
    return f"{stage}/{RESULTS}"


def _read(run: RunDir, stage: str, manifest: Mapping[str, Any]) -> Swept:
    sweep = Sweep.model_validate(_without_nulls(manifest["settings"]["sweep"]))
    rows = run.read_table(results_of(stage)).to_pylist()
    order = {name: place for place, name in enumerate(manifest["summary"]["order"])}
    rows.sort(key=lambda row: (order.get(row["trial"], len(order)), row["trial"]))
    failed = [row["error"] or "its process died" for row in rows if row["status"] == "failed"]
    return Swept(
        stage.removeprefix("tune/"),
        sweep,
        [_trial(row, sweep) for row in rows],
        {told: failed.count(told) for told in dict.fromkeys(failed)},
        "harm" in manifest["settings"].get("judges", {}),
    )


def _trial(row: dict[str, Any], sweep: Sweep) -> Trial:
    settings = {key: domain.plain(row[key]) for key, domain in sweep.space.items()}
    measures = {name: row[name] for name in MEASURES[sweep.kind]}
    return Trial(row["trial"], row["status"], settings, measures, row["on_front"])


def _without_nulls(value: Any) -> Any:
    """Of a section's own fields; a choice may well be null."""
    space = {
        key: {name: given for name, given in domain.items() if given is not None}
        for key, domain in value["space"].items()
    }
    return {name: given for name, given in value.items() if given is not None} | {"space": space}
