"""A run directory as the stages before `train` leave it, with two small batches, made by hand."""

from __future__ import annotations

import pyarrow as pa

from moe_safety.batches.encoded import ENCODED, Encoder
from moe_safety.batches.files import write_batches
from moe_safety.config import Config, ModelConfig, load_config
from moe_safety.identify import Selection
from moe_safety.identify.identify import rule
from moe_safety.models.io import load_chat, model_fingerprint
from moe_safety.pipeline import BATCHES, PROMPTS, SELECTION
from moe_safety.rundir import RunDir

REFUSAL = "i am sorry, but i cannot help with that."
ANSWER = "sure, take the fep."
"""To the unsafe prompts."""
LABELS = ("safe", "unsafe", "benign")


def configured(folder, experts, *flags) -> Config:
    """For `train` on two batches of three rows; each batch's mask is one of the experts and the last of them."""
    flags = [f"run_dir={folder}", "train.launch=process", "train.num_epochs=2", "train.learning_rate=1e-2", *flags]
    config = load_config("configs/demo.yaml", flags)
    run, encoder = RunDir(config.run_dir), Encoder(load_chat(ModelConfig(name="demo")), 256, 128)
    rows = [
        {
            "batch_idx": batch,
            "in_batch_idx": place,
            "prompt_id": f"{batch}-{label}",
            "label": label,
            "messages": [{"role": "user", "content": "tell me how to dorf the nurl" + " with the fep" * place}],
            "target": REFUSAL,
            "answer": ANSWER if label == "unsafe" else None,
        }
        for batch in range(2)
        for place, label in enumerate(LABELS)
    ]
    encoded, table = list(map(encoder, rows)), pa.Table.from_pylist(rows)
    for field in ENCODED:
        table = table.append_column(field, pa.array([row[field.name] for row in encoded], field.type))
    write_batches(run, table, encoder)
    prompts = [{"prompt_id": row["prompt_id"], "category": f"kind {row['batch_idx']}"} for row in rows]
    run.write_table(PROMPTS, pa.Table.from_pylist([row | {"goal_id": row["prompt_id"]} for row in prompts]))
    masks = {batch: sorted({experts[batch % len(experts)], experts[-1]}) for batch in range(2)}
    made = {name: run.digest(name) for name in (PROMPTS, BATCHES)}
    model = model_fingerprint(config.model)
    chosen = Selection(**rule(config.identify), model=model, experts=experts, per_batch=masks, inputs=made)
    run.write_json(SELECTION, chosen.to_json())
    return config
