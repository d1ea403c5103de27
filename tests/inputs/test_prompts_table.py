"""Ids and normalised text."""

from __future__ import annotations

import json
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.inputs.table import PROMPTS_SCHEMA, Prompt, Spool, goal_id, normalise, prompt_id


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("  Blick\tthe \n ZORP ", "blick the zorp"),
        ("ｂｌｉｃｋ ①", "blick 1"),
        ("Straße ﬁne", "strasse fine"),
        ("e\u0301", "é"),
        ("no\u00a0break", "no break"),
    ],
)
def test_normalise(text, same):
    assert normalise(text) == same
    assert goal_id(text) == goal_id(same) == sha256(same.encode()).hexdigest()[:16]


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


def test_prompt_ids_depend_on_roles_texts_and_their_borders():
    conversations = [
        [{"role": "user", "content": "ab"}],
        [{"role": "system", "content": "ab"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "ab "}],
        [{"role": "user", "content": 'a", "user": "b'}],
    ]
    assert len({prompt_id(messages) for messages in conversations}) == len(conversations)
    assert prompt_id(conversations[0]) == prompt_id([{"content": "ab", "role": "user"}])


def test_a_table_of_several_batches_keeps_order_and_text():
    count = 20_001
    prompts = [
        Prompt(
            f"{n:016x}",
            "g",
            f"zorp {n}",
            "safe",
            None,
            None,
            [{"role": "user", "content": f"zorp {n}"}],
            None,
            None,
            "t",
            True,
            "f:1",
        )
        for n in range(count)
    ]
    spool = Spool()
    for prompt in prompts:
        spool.add(prompt)
    table = spool.close(pa.array(["train"] * count), pa.array(["a", *[None] * (count - 1)])).table
    assert table.schema == PROMPTS_SCHEMA
    assert table.num_rows == count
    assert table["messages"].to_pylist()[-1] == [{"role": "user", "content": f"zorp {count - 1}"}]
    assert json.dumps(table.slice(10_000, 1).to_pylist()[0]["prompt_id"]) == f'"{10_000:016x}"'
    assert table["category"].to_pylist() == ["a", *[None] * (count - 1)]
