"""The job of `respond`: the base model answers prompts, and is asked how likely it finds answers that files record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from moe_safety.batches.answers import ANSWERS, answers_table, limits_of, pack_prompts, prompt_seed
from moe_safety.batches.encoded import TOKENS, Encoder
from moe_safety.config import ModelConfig, RespondConfig
from moe_safety.jobs import Plan
from moe_safety.models.encode import answer_span

ANSWER, RECORDED = "answer", "recorded"
"""The kinds of item: prompts to answer, and attacks whose recorded answers are weighed beside the model's own."""
PLAN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("prompt_id", pa.string()),
        ("tokens", TOKENS),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
        ("recorded_prefix", TOKENS),
        ("recorded_span", TOKENS),
    ]
)
PARTS_SCHEMA = pa.schema([*ANSWERS, ("own_nats", pa.float64()), ("recorded_nats", pa.float64())])
"""The last two are nats per token of the span of an answer, and stand in items of recorded answers alone."""


def write_plan(
    plan: Plan,
    asked: Sequence[dict[str, Any]],
    weighed: Sequence[dict[str, Any]],
    encoder: Encoder,
    settings: RespondConfig,
    *,
    seed: int,
    identity: str,
) -> None:
    """`asked` are prompts to answer, with their tokens; `weighed` attacks with a recorded answer, encoded."""

    def rows(kind: str, prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "kind": kind,
                "prompt_id": prompt["prompt_id"],
                "tokens": prompt["prompt_tokens"],
                "temperature": settings.temperature if prompt["label"] in ("safe", "unsafe") else 0.0,
                "seed": prompt_seed(seed, prompt["prompt_id"]),
                "recorded_prefix": prompt.get("answer_prefix", []),
                "recorded_span": prompt.get("answer_tokens", []),
            }
            for prompt in prompts
        ]

    items: list[pa.Table] = []
    for kind, prompts in ((ANSWER, asked), (RECORDED, weighed)):
        told = rows(kind, prompts)
        sizes = [len(row["tokens"]) + max(settings.max_new_tokens, len(row["recorded_span"])) for row in told]
        items += [
            pa.Table.from_pylist([told[place] for place in group.tolist()], schema=PLAN_SCHEMA)
            for group in pack_prompts(sizes, settings.max_tokens_per_forward)
        ]
    plan.write(items, PLAN_SCHEMA, identity)


@dataclass
class Responder:
    """Handles one item: a group of prompts that are answered together."""

    model: ModelConfig
    settings: RespondConfig
    max_answer: int
    divisible: bool = True

    def __post_init__(self) -> None:
        from moe_safety.models.generate import Generator
        from moe_safety.models.kept import kept_model
        from moe_safety.models.load import load_chat

        limits = limits_of(self.settings)
        self.generator = Generator(
            kept_model(self.model, self.settings.gpus_per_replica), load_chat(self.model), limits
        )

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        prompts = rows["tokens"].to_pylist()
        answers = self.generator.answer(prompts, rows["temperature"].to_pylist(), rows["seed"].to_pylist())
        table = answers_table(self.generator, rows["prompt_id"].to_pylist(), answers)
        own: list[float | None] = [None] * len(rows)
        recorded = own
        if rows["kind"][0].as_py() == RECORDED:
            own = self._nats(prompts, [(answer.prefix, self._span(answer)) for answer in answers])
            given = zip(rows["recorded_prefix"].to_pylist(), rows["recorded_span"].to_pylist(), strict=True)
            recorded = self._nats(prompts, list(given))
        columns = [*table.columns, pa.array(own, pa.float64()), pa.array(recorded, pa.float64())]
        return pa.table(columns, schema=PARTS_SCHEMA)

    def _span(self, answer: Any) -> list[int]:
        end = self.generator.chat.end
        return answer_span(answer.tokens, ended=answer.ended, end=end, at_most=self.max_answer)

    def _nats(self, prompts: Sequence[list[int]], answers: Sequence[tuple[list[int], list[int]]]) -> list[float | None]:
        """How unlikely the model finds each answer, per token; nothing of an empty one."""
        import torch

        from moe_safety.models.answers import answer_losses, make_rows, mean_by_row

        device = self.generator.model.get_input_embeddings().weight.device
        before = [[*prompt, *prefix] for prompt, (prefix, _) in zip(prompts, answers, strict=True)]
        with torch.inference_mode():
            losses, row = answer_losses(self.generator.model, make_rows(before, [span for _, span in answers], device))
            means = mean_by_row(losses, row, len(prompts)).tolist()
        return [mean if span else None for mean, (_, span) in zip(means, answers, strict=True)]

    def tokens(self, rows: pa.Table) -> int:
        return sum(len(row) for row in rows["tokens"].to_pylist()) + len(rows) * self.settings.max_new_tokens
