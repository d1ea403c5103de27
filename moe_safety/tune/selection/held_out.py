"""The validation prompts as a run of their own: composed and captured as training prompts are."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import Config
from moe_safety.errors import InputError
from moe_safety.pipeline import PROMPTS, RESPONSES, run_one
from moe_safety.rundir import RunDir, manifest_name

FOLDER = "tune/_validation"
_DECIDED = "decided.json"
"""Settings and inputs of the stages whose counterparts run here."""


def capture_held_out(config: Config, run: RunDir) -> RunDir:
    """Captures the routing of validation prompts; the test split is for the final word."""
    prompts = run.read_table(PROMPTS)
    chosen = prompts.filter(pc.equal(prompts["split"], "validation"))
    responses = run.read_table(RESPONSES) if run.exists(RESPONSES) else None
    if responses:
        kept = responses.filter(responses["kept"])
        chosen = chosen.filter(pc.is_in(chosen["prompt_id"], kept["prompt_id"]))
    labels = set(chosen["label"].to_pylist())
    if not {"safe", "unsafe"} <= labels:
        raise InputError("a sweep needs attacks and plain goals to try on", key="data.validation_fraction")
    split = pa.array(["train"] * len(chosen), chosen.schema.field("split").type)
    there = _emptied(run)
    there.write_table(PROMPTS, chosen.set_column(chosen.schema.get_field_index("split"), "split", split))
    if responses:
        there.write_table(RESPONSES, responses.filter(pc.is_in(responses["prompt_id"], chosen["prompt_id"])))
    # A pair and a wrapped harmless request at a time, so that none is left over.
    one = {"batch_size": 2, "safe_ratio": 0.5, "benign_per_batch": 0, "control_per_batch": int("control" in labels)}
    batches = config.batches.model_copy(update={**one, "num_batches": None, "group_by": None})
    own = config.model_copy(update={"run_dir": there.uri, "batches": batches})
    for stage in ("compose", "capture"):
        run_one(stage, own)
    return there


def _emptied(run: RunDir) -> RunDir:
    """The folder, without what was captured of other prompts or in another way: it is this program's own, so nothing is
    lost that anybody would have to be asked about."""
    there = RunDir(run.uri_of(FOLDER))
    done = [run.read_json(manifest_name(stage)) for stage in ("compose", "capture")]
    decided = [[manifest["settings"], manifest["inputs"]] for manifest in done]
    if not there.exists(_DECIDED) or there.read_json(_DECIDED) != decided:
        run.delete_folder(FOLDER)
        there.write_json(_DECIDED, decided)
    return there
