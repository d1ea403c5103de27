"""A replica that has the base examines an arm by its delta, to the bit as by its checkpoint, and has the base again."""

import shutil
import sys

import pytest

from moe_safety.checkpoints import extract_delta
from moe_safety.config import EvaluateConfig, ModelConfig
from moe_safety.evaluate.examiner import examiner
from moe_safety.evaluate.plan import LOSSES, ROUTING
from moe_safety.generation import Limits, Opening
from moe_safety.generation.items import ANSWERS, make_item
from moe_safety.models.demo import language
from moe_safety.models.io import kept_model, load_chat, load_model, model_folder
from tests.checkpoints.pairs import flip, save_tuned
from tests.models.io.test_swap import bits, same

DEMO = ModelConfig(name="demo")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """An arm as its checkpoint, and as the base with its delta."""
    folder, base = tmp_path_factory.mktemp("arm"), model_folder(DEMO)
    tuned = save_tuned(base, folder / "tuned")
    model = load_model(ModelConfig(name=str(tuned)))
    for layer, expert in ((1, 3), (2, 9)):
        for name in ("gate_up_proj", "down_proj"):
            model.get_parameter(f"model.layers.{layer}.mlp.experts.{name}").data[expert] *= -2
    flip(model.model.layers[0].mlp.gate.weight)
    model.save_pretrained(tuned)
    for file in base.iterdir():
        if not (tuned / file.name).exists():
            shutil.copy(file, tuned)
    extract_delta(base, tuned, folder / "delta.safetensors")
    return ModelConfig(name=str(tuned)), DEMO.with_delta(str(folder / "delta.safetensors"))


@pytest.fixture(scope="module")
def items():
    chat = load_chat(DEMO)
    wrapped = [next(iter(language.WRAPPERS.values()))(request) for request in language.requests(True)[-6:]]
    rows = [{"prompt_id": str(n), "tokens": chat.prompt(text)} for n, text in enumerate(wrapped)]
    asked = [row | {"temperature": float(n % 2) * 3, "seed": n} for n, row in enumerate(rows)]
    given = [row | {"answer": chat.prompt(wrapped[0])[:9]} for row in rows]
    return [make_item(ANSWERS, asked), make_item(LOSSES, given), make_item(ROUTING, given)]


def examined(model, items, avoided=()):
    opening = Opening("transformers", model, Limits(12), 1, {})
    handler = examiner(opening, avoided, EvaluateConfig())
    return [handler(rows, {}) for rows in items]


@pytest.mark.parametrize("avoided", [(), ((3, 1), (3, 2))], ids=["plain", "steered"])
def test_all_that_is_measured_is_the_same(both, items, avoided):
    whole, by_delta = both
    base = examined(DEMO, items, avoided)
    expected = examined(whole, items, avoided)
    assert all(not one.equals(other) for one, other in zip(base, expected, strict=True))
    found = examined(by_delta, items, avoided)
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
    again = examined(DEMO, items, avoided)
    assert all(one.equals(other) for one, other in zip(again, base, strict=True))


def test_the_base_is_read_once_for_all_of_them(both, items, monkeypatch):
    loaded = kept_model(DEMO, 1)
    module = sys.modules["moe_safety.models.io.kept_model"]
    monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("weights are read again"))
    before = bits(loaded)
    for _ in range(2):
        examined(both[1], items[1:2])
        assert same(bits(loaded), before)
    assert kept_model(both[1], 1) is loaded
    assert not same(bits(loaded), before)
    assert same(bits(loaded), bits(load_model(both[0])))
    assert kept_model(DEMO, 1) is loaded
    assert same(bits(loaded), before)
