"""What `capture` left of every prompt, in the form that the earlier scripts kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moe_safety.errors import InputError
from moe_safety.jobs import Plan
from moe_safety.models import MoELayout
from moe_safety.routing.table import layout_of, matrix
from moe_safety.routing.tokens import memberships
from moe_safety.rundir import RunDir, manifest_name, summary_of

PLAN = "plans/capture.parquet"


@dataclass
class Captured:
    """The counts of `capture`, by prompt."""

    layout: MoELayout
    counted: dict[str, int]
    """How many tokens were counted."""
    counts: dict[str, np.ndarray]
    """Where these went, as [MoE layers, experts of the largest]."""
    spans: dict[str, tuple[int, int]]
    """Where the counted tokens begin and end."""
    lengths: dict[str, int]
    """Tokens of prompt and answer together."""
    tokens: str
    """Which of them were counted: `response`, `prompt` or `all`."""
    by_token: dict[str, np.ndarray] = field(default_factory=dict)
    """Each token's experts, as [MoE layers, tokens, experts of the largest]; empty unless they were kept."""

    def lengths_of(self, prompt_id: str) -> dict[str, int]:
        """Tokens of the prompt and of what was generated. Nothing where both were counted together: then nobody knows
        where the one ends."""
        if self.tokens == "all":
            return {}
        boundary = self._boundary(prompt_id)
        return {"num_prompt_tokens": boundary, "num_generated_tokens": self.lengths[prompt_id] - boundary}

    def routings_of(self, prompt_id: str) -> dict[str, np.ndarray]:
        """Each token's experts, of the whole and of both sides; nothing where they were not kept."""
        if not self.by_token:
            return {}
        whole = {"all_routings": self.by_token[prompt_id]}
        if self.tokens == "all":
            return whole
        prompt, generated = np.split(whole["all_routings"], [self._boundary(prompt_id)], axis=1)
        return {"prompt_routings": prompt, "generation_routings": generated, **whole}

    def counted_routings(self, prompt_id: str) -> np.ndarray:
        """Each counted token's experts."""
        start, end = self.spans[prompt_id]
        return self.by_token[prompt_id][:, start:end]

    def _boundary(self, prompt_id: str) -> int:
        start, end = self.spans[prompt_id]
        return start if self.tokens == "response" else end


def read_captured(run: RunDir) -> Captured:
    """The counts that `capture` left, by prompt."""
    summary, manifest = summary_of(run, "capture"), run.read_json(manifest_name("capture"))
    counted: dict[str, int] = {}
    counts: dict[str, np.ndarray] = {}
    for name in summary["files"]:
        table = run.read_table(name)
        layout = layout_of(table.schema)
        ids = table["prompt_id"].to_pylist()
        counted |= zip(ids, table["tokens"].to_pylist(), strict=True)
        by_prompt = matrix(table, "counts").reshape(-1, *layout.shape)
        counts |= {prompt_id: by_expert.copy() for prompt_id, by_expert in zip(ids, by_prompt, strict=True)}
    spans, lengths = _places(run)
    found = Captured(layout, counted, counts, spans, lengths, manifest["config"]["capture"]["tokens"])
    if files := summary.get("token_files"):
        _check_whole(run, files, manifest["outputs"])
        found.by_token = dict(memberships((run.read_table(name) for name in files), layout))
    return found


def _places(run: RunDir) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Where counted tokens stood, and how long each row was."""
    if not run.exists(PLAN):
        raise InputError("is not there; run `capture` again", file=run.path(PLAN))
    plan, spans, lengths = Plan(run, PLAN), dict[str, tuple[int, int]](), dict[str, int]()
    for item in range(len(plan)):
        rows = plan.rows(item).select(["prompt_id", "tokens", "counted_from", "counted_to"]).to_pylist()
        spans |= {row["prompt_id"]: (row["counted_from"], row["counted_to"]) for row in rows}
        lengths |= {row["prompt_id"]: len(row["tokens"]) for row in rows}
    return spans, lengths


def _check_whole(run: RunDir, files: list[str], left: dict[str, Any]) -> None:
    for name in files:
        if not run.exists(name) or run.digest(name) != left[name]:
            raise InputError("is not what `capture` wrote; run `capture` again", file=run.path(name))
