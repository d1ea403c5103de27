"""How far a model's words moved from the base's, on the same good answers to harmless requests."""

import pytest
import torch

from moe_safety.config import EvaluateConfig, ModelConfig
from moe_safety.evaluate import answer_shift
from moe_safety.evaluate.examiner import examiner
from moe_safety.evaluate.plan import ANSWER_SHIFT
from moe_safety.generation import Limits, Opening
from moe_safety.generation.items import make_item
from moe_safety.models import inspect_model
from moe_safety.models.demo import language
from moe_safety.models.io import kept_model, load_chat
from moe_safety.models.routers import avoiding

DEMO = ModelConfig(name="demo")
AVOIDED = tuple((2, expert) for expert in range(12))


@pytest.fixture(scope="module")
def item():
    chat = load_chat(DEMO)
    asked = language.requests(False)[:4]
    rows = [
        {"prompt_id": str(n), "tokens": chat.prompt(language.plain(one)), "answer": chat.answer(one.answer)[1][: 4 + n]}
        for n, one in enumerate(asked)
    ]
    return make_item(ANSWER_SHIFT, rows)


def read(item, avoided=()):
    return examiner(Opening("transformers", DEMO, Limits(12), 1, {}), avoided, EvaluateConfig())(item, {})


def shift(monkeypatch, base, own):
    monkeypatch.setattr(answer_shift, "tables_of", lambda parts, kind: parts)
    return answer_shift.answer_shift(base, own, {"0": "benign", "1": "benign", "2": "control", "3": "control"})


def test_it_is_the_divergence_of_the_next_words(monkeypatch, item):
    base, own = read(item), read(item, AVOIDED)
    found = shift(monkeypatch, [base], [own])
    assert found["tokens"] == {"benign": 4 + 5, "control": 6 + 7}
    model, rows = kept_model(DEMO, 1), item.to_pylist()[:2]
    expected = 0.0
    for row in rows:
        ids, n = torch.tensor([row["tokens"] + row["answer"]]), len(row["answer"])
        with torch.inference_mode():
            then = model(ids).logits[0, -n - 1 : -1].double().log_softmax(-1)
            with avoiding(model, inspect_model(model), AVOIDED):
                now = model(ids).logits[0, -n - 1 : -1].double().log_softmax(-1)
        expected += float((then.exp() * (then - now)).sum())
    assert found["kl"]["benign"] == pytest.approx(expected / 9, rel=1e-3)
    assert shift(monkeypatch, [base], [base])["kl"] == {"benign": 0.0, "control": 0.0}


def test_tokens_taken_together_make_it_no_larger(monkeypatch, item):
    whole = shift(monkeypatch, [read(item)], [read(item, AVOIDED)])["kl"]
    monkeypatch.setattr(answer_shift, "GROUPS", 7)
    grouped = shift(monkeypatch, [read(item)], [read(item, AVOIDED)])["kl"]
    assert all(0 < grouped[label] <= whole[label] for label in whole)


def test_without_the_same_tokens_nothing_is_said(monkeypatch, item):
    base = read(item)
    assert shift(monkeypatch, [], []) is None
    assert shift(monkeypatch, [base], []) is None
    assert shift(monkeypatch, [base], [base.slice(0, 2)]) is None
