"""`verify/ARM`: the proof that an arm changed only what it may."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from moe_safety.arms import SELECTED, SeededArm, names_of
from moe_safety.identify import read_selection
from moe_safety.models.io import check_loadable, model_fingerprint, model_folder, skeleton_of
from moe_safety.pipeline import SELECTION
from moe_safety.rundir import Outcome, RunDir, Work, run_work


def verify_arm(arm: SeededArm, trained: dict[str, Any], *, force: bool) -> None:
    """Writes `train/ARM/verify.json`; `trained` is the summary of its training."""
    run, folder = RunDir(arm.config.run_dir), f"train/{arm.name}"
    rounds = [f"{folder}/round_{n}/{SELECTION}" for n in range(1, arm.config.train.num_rounds + 1)]
    further = sorted(arm.arm.parts - {"routers", "everything"})
    stage = Work(
        f"verify/{arm.name}",
        settings={"routers": "routers" in arm.arm.may_change} | ({"parts": further} if further else {}),
        reads=tuple(rounds) if arm.arm.choice else (arm.selection,) if arm.arm.reads_selection else (),
        others={
            "model": model_fingerprint(arm.config.model),
            **run.read_json(f"manifests/train.{arm.name}.json")["outputs"],
        },
        remade=True,
    )
    body = partial(_compare, arm, run, stage.reads, trained)
    run_work(run, stage, arm.config.model_dump(mode="json"), body, force=force)


def verified(run: RunDir, arm: SeededArm) -> dict[str, Any]:
    """What `verify` found: the verdict, and how much changed."""
    return run.read_json(f"train/{arm.name}/verify.json")


def _compare(arm: SeededArm, run: RunDir, selections: Sequence[str], trained: dict[str, Any]) -> Outcome:
    """Every round may move what it selects. Where everything may move, only how much does is counted."""
    from moe_safety.checkpoints import verify

    may_change, free = arm.arm.may_change, arm.arm.trains_all
    model, layout = skeleton_of(arm.config.model), check_loadable(arm.config.model)
    chosen = sorted({expert for name in selections for expert in read_selection(run, name).union()})
    final = trained["final_model"]
    with run.reading(final) if final else run.reading_file(trained["delta"]) as tuned:
        report = verify(
            model_folder(arm.config.model),
            tuned,
            layout.experts() if free else chosen if SELECTED in may_change else (),
            free or "routers" in may_change,
            parameters=names_of(arm.arm.parts, model, layout, chosen),
            trust_remote_code=arm.config.model.trust_remote_code,
        )
    found = {
        "verify": "n/a" if free else "fail" if report.violations else "pass",
        "changed_ratio": report.changed_ratio,
        "experts": [list(expert) for expert in report.experts],
        "routers": report.routers,
        "violations": [] if free else [str(violation) for violation in report.violations],
    }
    name = f"train/{arm.name}/verify.json"
    run.write_json(name, found)
    return Outcome(outputs=(name,), summary={"verify": found["verify"], "changed_ratio": report.changed_ratio})
