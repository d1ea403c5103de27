"""Prefills: the beginning of an answer stands there already, and the model goes on from it."""

from __future__ import annotations

import pyarrow as pa

from moe_safety.generation import Answer, Engine
from moe_safety.generation.answers import answers_table
from moe_safety.generation.items import given_answers


def go_on(engine: Engine, rows: pa.Table) -> pa.Table:
    """An item of prompts with an answer's opening. The answer is the opening and what the model says after it."""
    before, openings = given_answers(rows)
    prompts = [prompt + opening for prompt, opening in zip(before, openings, strict=True)]
    said = engine.answer(prompts, rows["temperature"].to_pylist(), rows["seed"].to_pylist())
    # What a template knows as thinking stands before an answer, never in the middle of one.
    whole = [
        Answer(prefix=[], tokens=[*opening, *one.prefix, *one.tokens], ended=one.ended)
        for opening, one in zip(openings, said, strict=True)
    ]
    return answers_table(engine.chat, rows["prompt_id"].to_pylist(), whole)
