"""What the stages of a run had to compute, read from what they left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.job.floors import Floors
from moe_safety.arms import ARMS, kind_of
from moe_safety.rundir import RunDir


def arithmetic(run: RunDir, floors: Floors) -> dict[str, float]:
    """Seconds of arithmetic by stage; stages that pass nothing through the model are left out."""
    found: dict[str, float] = {}
    if run.exists("responses/responses.parquet"):
        said = run.read_table("responses/responses.parquet", ["recorded", "answer_tokens"])
        own = said.filter(pc.invert(said["recorded"]))
        found["respond"] = _asked(run, "respond", _tokens(own, "answer_tokens").sum(), floors)
    if run.exists("batches.parquet"):
        batches = run.read_table("batches.parquet")
        seen = _tokens(batches, "prompt_tokens", "answer_prefix", "answer_tokens")
        found["capture"] = floors.forward(seen.sum())
        found["gradients"] = floors.backward(_tokens(batches, "prompt_tokens", "target_tokens").sum(), "experts")
        found["effects"] = _effects(
            run, dict(zip(batches["prompt_id"].to_pylist(), seen.tolist(), strict=True)), floors
        )
    for name in filter(_is_metadata, run.files("train")):
        arm = name.split("/")[1]
        learned = sum(row["tokens"] for row in run.read_json(name)["training_logs"])
        found[f"train/{arm}"] = floors.backward(learned, "all" if ARMS.get(kind_of(arm)).trains_all else "few")
    for name in run.names("eval", ".json"):
        arm = Path(name).stem
        said = run.read_table(f"eval/{arm}/responses.parquet", ["answer_tokens"])
        found[f"evaluate/{arm}"] = _asked(run, f"eval.{arm}", pc.sum(said["answer_tokens"]).as_py(), floors)
    return found


def _is_metadata(name: str) -> bool:
    return name.endswith("/training_metadata.json")


def _asked(run: RunDir, plan: str, said: float, floors: Floors) -> float:
    """A plan of prompts to answer, in which so many tokens were said, and of texts to read."""
    rows = run.read_table(f"plans/{plan}.parquet", ["kind", "tokens", "prefix", "answer"])
    answered = pc.equal(rows["kind"], "answers")
    prompts = _tokens(rows.filter(answered), "tokens")
    read = _tokens(rows.filter(pc.invert(answered)), "tokens", "prefix", "answer")
    return floors.answers(prompts, said) + floors.forward(read.sum(), head=True)


def _effects(run: RunDir, tokens: dict[str, int], floors: Floors) -> float:
    """Of each prompt a pass, a pass for every expert that was held back, from its layer on, and a forward and backward
    pass for the estimate of all experts."""
    whole = 0.0
    for name in run.names("effects", ".parquet"):
        table = run.read_table(name)
        measured = ~np.isnan(np.array(table["effects"].to_pylist(), float)).reshape(len(table), floors.shape.layers, -1)
        layers = np.arange(floors.shape.layers)
        passes = (measured.sum(axis=2) * (1 - layers / len(layers))).sum(axis=1) + 1
        whole += floors.forward(float(passes @ [tokens[one] for one in table["prompt_id"].to_pylist()]))
        whole += floors.backward(sum(tokens[one] for one in table["prompt_id"].to_pylist()), "experts")
    return whole


def _tokens(table: pa.Table, *columns: str) -> np.ndarray:
    """Of each row, in all these columns together."""
    lengths = [pc.fill_null(pc.list_value_length(table[name]), 0).to_numpy() for name in columns]
    return np.sum(lengths, axis=0) if len(table) else np.zeros(0)
