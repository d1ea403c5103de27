"""`export --format pickle`: the earlier scripts' files. They are written for notebooks, and never read here."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from moe_safety.errors import InputError
from moe_safety.export.batches import batch_data_list, sft_dataset
from moe_safety.export.captured import read_captured
from moe_safety.export.experts import batch_selections, global_selection, risk_tables
from moe_safety.export.gradients import arm_by_gradient, gradients_by_round
from moe_safety.identify import read_selection
from moe_safety.identify.inputs import captured_digest
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir, is_finished, manifest_name, summary_of

_PROTOCOL = 4
"""Of pickle, for notebooks on older versions of Python."""

Files = Iterator[tuple[str, dict[Any, Any]]]


def export_pickles(run_dir: str, out: str | None = None) -> list[str]:
    """Writes the files to `out`, or to `export/` in the run directory, and returns their paths."""
    run = RunDir(run_dir)
    target, folder = (RunDir(out), "") if out else (run, "export/")
    paths = []
    for name, content in _files(run):
        with target.writing(folder + name) as path, open(path, "wb") as file:
            pickle.dump(content, file, _PROTOCOL)
        paths.append(target.path(folder + name))
        print(f"export: {paths[-1]}")
    return paths


def _files(run: RunDir) -> Files:
    """Gradients and routing were two ways of finding experts: a run directory may have gone one of them alone. What
    does not belong together is refused before the first file."""
    has_gradients = is_finished(run, "gradients")
    has_routing = is_finished(run, "capture") or not has_gradients
    arm = arm_by_gradient(run) if has_gradients else None
    if has_gradients:
        for stage in ("gradients", *([f"train/{arm}"] if arm else [])):
            _check_batches(run, stage)
    if has_routing:
        _check_routing(run)
        yield from _routing_files(run)
    else:
        print("export: nothing of routing, because `capture` has not been run")
    if has_gradients:
        yield "expert_gradients.pkl", gradients_by_round(run, _top_k(run), arm)
    else:
        print("export: no expert_gradients.pkl, because `gradients` has not been run")


def _check_batches(run: RunDir, stage: str) -> None:
    """What a stage left must be of the batches that stand beside it."""
    read = run.read_json(manifest_name(stage))["inputs"]
    if run.exists(BATCHES) and read[BATCHES] != run.digest(BATCHES):
        raise InputError(f"`{stage}` was run on other batches; run it again", file=run.uri)


def _check_routing(run: RunDir) -> None:
    for stage in ("compose", "capture", "identify"):
        summary_of(run, stage)
    read = run.read_json(manifest_name("identify"))["inputs"]
    if read.get(BATCHES) != run.digest(BATCHES) or read.get("routing") != captured_digest(run):
        raise InputError("`identify` was run without these batches and their counts; run it again", file=run.uri)


def _top_k(run: RunDir) -> int:
    """As many experts as were selected; where nothing was, as the configuration then said."""
    stage = "identify" if is_finished(run, "identify") else "gradients"
    return run.read_json(manifest_name(stage))["config"]["identify"]["top_k"]


def _routing_files(run: RunDir) -> Files:
    config, composed = (run.read_json(manifest_name(stage))["config"] for stage in ("identify", "compose"))
    model = config["model"]["name"].replace("/", "--")
    selection = read_selection(run)
    captured = read_captured(run)
    if not captured.by_token:
        print("export: no routing of single tokens, because `capture` was run without capture.per_token")
    batches, layout = batch_data_list(run, captured), captured.layout
    top_k = layout.layers[0].top_k
    risk, per_batch = risk_tables(run, selection), batch_selections(run, selection)
    yield (
        f"batch_outputs_{model}.pkl",
        {
            "batch_data_list": batches,
            "model_name": config["model"]["name"],
            "num_experts_per_tok": top_k,
            "batch_size": composed["batches"]["batch_size"],
            "safe_ratio": composed["batches"]["safe_ratio"],
        },
    )
    yield f"risk_diff_{model}.pkl", risk | per_batch
    yield (
        f"sft_dataset_{model}.pkl",
        {
            "sft_dataset": sft_dataset(batches),
            "batch_data_list": batches,
            **global_selection(run, selection),
            **per_batch,
            "aggregated_risk_diff": risk["aggregated_risk_diff"],
            "num_layers": layout.n_moe_layers,
            "n_experts": layout.max_experts,
            "num_experts_per_tok": top_k,
            "layers": [layer.index for layer in layout.layers],
        },
    )
