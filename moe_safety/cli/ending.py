"""What a command says at its end: what took how long, and what to look at, or to do, next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_safety.config import Config, SweepFile

_SHOWN, _LEAST = 3, 0.05
"""How many kinds of work are told of a stage, and the share of its seconds from which one is."""


def took_lines(done: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each stage that did something: its seconds, and on what most of them went."""
    from moe_safety.jobs import told_seconds

    # A stage of another package need not say whether it was skipped.
    worked = {stage: told["took"] for stage, told in done.items() if not told.get("skipped")}
    if not worked:
        return
    if len(done) > 1:
        yield f"took {told_seconds(sum(took['seconds'] for took in worked.values()))}"
    for stage, took in worked.items():
        waited = _most(took["replicas"], sum(took["replicas"].values()))
        own = _most(took["driver"], took["seconds"])
        inside = f"; workers: {waited}" if waited and "waiting" in own else ""
        yield f"{'  ' * (len(done) > 1)}{f'{stage} took':<16}{told_seconds(took['seconds']):>7}  {own}{inside}"


def _most(seconds: Mapping[str, float], total: float) -> str:
    kinds = sorted(((value, kind) for kind, value in seconds.items() if value > _LEAST * total), reverse=True)
    return ", ".join(f"{kind} {value:.1f}" for value, kind in kinds[:_SHOWN])


def next_lines(config: Config, file: str, stage: str) -> Iterator[str]:
    """What comes after a stage; after the last one the files to look at."""
    from moe_safety.pipeline import STAGES, in_order
    from moe_safety.rundir import RunDir

    run, stages = RunDir(config.run_dir), in_order(STAGES)
    at = [one.name for one in stages].index(stage)
    # Behind a stage of one arm, which `run` does not need, comes the next of these.
    later = [one.name for one in stages[at + 1 :] if one.needed_when(config) or not stages[at].needed_when(config)]
    if later:
        yield f"next: moe-safety {later[0]} {file} (or `run`, which does all that is left)"
        return
    left = [name for one in reversed(stages) for name in one.look_at if run.exists(name)]
    yield f"look at: {', '.join(f'{config.run_dir}/{name}' for name in left)}"


def lines_of_sweep(file: SweepFile) -> Iterator[str]:
    """What comes after a sweep: its best configuration, and the table of its trials."""
    from moe_safety.tune.outcome import BEST, RESULTS

    folder = f"{file.config.run_dir}/tune/{file.name}"
    yield f"next: moe-safety run {folder}/{BEST}"
    yield f"look at: {folder}/{RESULTS}"
