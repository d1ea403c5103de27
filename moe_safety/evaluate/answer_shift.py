"""Answer shift: how far a model's words have moved from the base's, where both read the same good answer to a harmless
request. Refusals and losses see an answer that changed; this sees one that is about to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from moe_safety.evaluate.plan import ANSWER_SHIFT
from moe_safety.generation import Engine
from moe_safety.generation.items import given_answers, tables_of
from moe_safety.jobs import Parts

GROUPS = 512
"""Tokens whose numbers are alike modulo this are taken together, since a vocabulary for every token is too much to
keep. A divergence of sums is no larger than that of what they are sums of; up to so many tokens it is the same."""
ANSWERS_SCHEMA = pa.schema([("prompt_id", pa.string()), ("tokens", pa.int32()), ("shares", pa.binary())])
"""A row per prompt: float32 [answer tokens, groups]."""


@torch.inference_mode()
def read_answers(engine: Engine, rows: pa.Table) -> pa.Table:
    """An item of harmless prompts with their good answers: the probability of each group of tokens, wherever the answer
    goes on."""
    from moe_safety.models.text.answer_losses import answer_logits, make_rows

    before, answers = given_answers(rows)
    device = engine.model.get_input_embeddings().weight.device
    logits, _, _ = answer_logits(engine.model, make_rows(before, answers, device))
    likely = logits.float().softmax(dim=1)
    padded = torch.nn.functional.pad(likely, (0, -likely.shape[1] % GROUPS))
    shares = padded.view(len(likely), -1, GROUPS).sum(dim=1).cpu().numpy()
    ends = np.cumsum([len(answer) for answer in answers])
    columns = {
        "prompt_id": rows["prompt_id"].to_pylist(),
        "tokens": [len(answer) for answer in answers],
        "shares": [each.tobytes() for each in np.split(shares, ends[:-1])],
    }
    return pa.table(columns, schema=ANSWERS_SCHEMA)


def answer_shift(base: Parts, own: Parts, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Mean KL(base || own) in nats per token, for each kind of harmless prompt, and how many tokens it is of. Nothing
    where the two did not read the same tokens, or one gives no numbers."""
    sums: dict[str, float] = {}
    tokens: dict[str, int] = {}
    for before, after in zip_longest(tables_of(base, ANSWER_SHIFT), tables_of(own, ANSWER_SHIFT)):
        same = before and after and before.select([0, 1]).equals(after.select([0, 1]))
        if not same:
            return None
        for then, now in zip(before.to_pylist(), after.to_pylist(), strict=True):
            label = labels[then["prompt_id"]]
            p, q = (np.frombuffer(one["shares"], np.float32).astype(np.float64) for one in (then, now))
            if p.size != q.size:
                return None
            sums[label] = sums.get(label, 0.0) + float((p[p > 0] * np.log(p[p > 0] / q[p > 0].clip(1e-45))).sum())
            tokens[label] = tokens.get(label, 0) + then["tokens"]
    if not tokens or not all(map(math.isfinite, sums.values())):
        return None
    return {"kl": {label: max(0.0, sums[label] / count) for label, count in tokens.items()}, "tokens": tokens}
