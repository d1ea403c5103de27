"""Items of prompts to answer, and several of them at once."""

from functools import partial

import numpy as np
import pytest

from moe_safety.config import ModelConfig
from moe_safety.generation import Limits, Opening
from moe_safety.generation.engines.slots import Slots
from moe_safety.generation.items import ANSWERS, PLAN_SCHEMA, ItemHandler, at_once, items_to_answer, make_item
from moe_safety.jobs import Plan
from moe_safety.jobs.bundles import bundles
from moe_safety.models.demo import language
from moe_safety.models.io import load_chat
from moe_safety.rundir import RunDir

DEMO = ModelConfig(name="demo")


def opening(engine="slots", answer=128, **settings):
    return Opening(engine, DEMO, Limits(answer), 1, {"slots": settings})


def flip_attack():
    """The prompts of FlipAttack's file for OLMoE: 371 attacks of 365 to 423 tokens, and requests of 6 to 60."""
    chance = np.random.default_rng(0)
    sizes = [*chance.integers(365, 424, 371), *chance.integers(6, 61, 326)]
    return [
        {"prompt_id": f"p{n}", "tokens": [n % 50] * int(size), "temperature": 1.0, "seed": n}
        for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("engine", ["slots", "transformers"])
def test_697_prompts_are_items_of_at_most_64_by_real_length_for_every_engine(engine):
    rows = flip_attack()
    items = list(items_to_answer(ANSWERS, rows, opening(engine), 32768))
    assert 11 <= len(items) <= 13
    ids = [name for item in items for name in item["prompt_id"].to_pylist()]
    assert sorted(ids) == sorted(row["prompt_id"] for row in rows)
    for item in items:
        lengths = [len(tokens) for tokens in item["tokens"].to_pylist()]
        assert len(item) <= 64
        assert sum(lengths) + 128 * len(item) <= 32768
    requests = [item for item in items if len(item["tokens"][0]) < 100]
    assert len(requests) <= 7, "short ones are not padded to the length of attacks"


def test_a_card_s_slots_take_several_and_no_other_engine_or_kind_does(tmp_path):
    rows, run = flip_attack(), RunDir(str(tmp_path))
    plan = Plan(run, "plan.parquet")
    full = list(items_to_answer(ANSWERS, rows, opening(), 32768))
    plan.write([*full, make_item("losses", rows[:3])], PLAN_SCHEMA, "identity")
    many = [at_once(plan, opening(), item) for item in range(len(plan))]
    assert many == [*(256 // len(item) for item in full), 1]
    assert at_once(plan, opening(slots=64), 0) == 1
    assert {at_once(plan, opening("transformers"), item) for item in range(len(plan))} == {1}

    class Asked:
        at_once = staticmethod(partial(at_once, plan, opening()))

    todo = [(0, item) for item in range(len(full))]
    assert {len(items) for _, items in bundles([Asked], todo, 8)} == {1, 2}
    assert len(bundles([Asked], todo, 8)) == 8
    assert max(len(items) for _, items in bundles([Asked], todo, 1)) == 4


@pytest.fixture
def three():
    """Items of three prompts each."""
    chat, wraps = load_chat(DEMO), list(language.WRAPPERS.values())
    prompts = [chat.prompt(wraps[n % 3](request)) for n, request in enumerate(language.requests(True)[-9:])]
    rows = [
        {"prompt_id": f"p{n}", "tokens": prompt, "temperature": float(n % 2), "seed": n}
        for n, prompt in enumerate(prompts)
    ]
    return [make_item(ANSWERS, rows[start : start + 3]) for start in (0, 3, 6)]


def test_answers_do_not_hang_on_what_is_answered_at_once(three, monkeypatch):
    monkeypatch.setattr(Slots, "device", "cpu")
    handler = ItemHandler(opening(answer=12, slots=4, chunk=64))
    alone = [handler(rows, {}) for rows in three]
    assert handler.together(three) == alone
    assert [*handler.together(three[1:]), *handler.together(three[:1])] == [*alone[1:], alone[0]]
    assert handler.together([three[0], make_item("losses", [{"prompt_id": "p", "tokens": [1]}])]) is None


def test_what_the_reference_answers_it_answers_item_by_item(three, monkeypatch):
    """Its answers may hang, by a last bit, on what they are padded with."""
    assert ItemHandler(opening(answer=12)).together(three) is None, "there is no card"
    monkeypatch.setattr(Slots, "device", "cpu")
    handler = ItemHandler(opening(answer=12, slots=4, chunk=64))
    longest = max(len(tokens) for item in three for tokens in item["tokens"].to_pylist())
    monkeypatch.setattr(type(handler.engine._slots), "fits", lambda self, prompt: len(prompt) < longest)
    assert handler.together(three) is None
    steered = ItemHandler(opening(answer=12, slots=4, chunk=64), avoided=[(0, 1)])
    assert steered.together(three) is None
