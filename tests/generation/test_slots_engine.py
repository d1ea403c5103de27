"""What the engine `slots` leaves to the reference, and what it says then."""

import logging

import pytest

from moe_safety.config import ModelConfig
from moe_safety.generation import ENGINES, Limits
from moe_safety.generation.engines.hf import Transformers
from moe_safety.generation.engines.slots import Slots
from moe_safety.models.demo import language
from moe_safety.models.slots import trial
from moe_safety.models.slots.pages import NotServed

DEMO = ModelConfig(name="demo")


def opened(**settings):
    return Slots(DEMO, Limits(12), 1, Slots.section(**settings))


@pytest.fixture
def prompts():
    chat = opened().chat
    wraps = list(language.WRAPPERS.values())
    return [chat.prompt(wraps[n % 3](request)) for n, request in enumerate(language.requests(True)[-7:])]


@pytest.fixture
def asked(prompts):
    return prompts, [0.0, 1.0] * 3 + [0.0], list(range(7))


@pytest.fixture
def expected(asked):
    return Transformers(DEMO, Limits(12), 1).answer(*asked)


@pytest.fixture
def referred(monkeypatch):
    """The sizes of what the reference is asked."""
    sizes, real = [], Transformers.answer

    def counted(self, prompts, *others):
        sizes.append(len(prompts))
        return real(self, prompts, *others)

    monkeypatch.setattr(Transformers, "answer", counted)
    return sizes


def test_it_is_what_answers_unless_something_else_is_asked_for():
    from moe_safety.config import EvaluateConfig, RespondConfig

    assert RespondConfig().engine == EvaluateConfig().engine == Slots.name
    assert Slots.abilities == ENGINES.get("transformers").abilities


def test_without_a_gpu_the_reference_answers_and_nothing_is_said(asked, expected, referred, caplog):
    with caplog.at_level(logging.WARNING):
        assert opened().answer(*asked) == expected
    assert referred == [7]
    assert not caplog.records


def test_a_model_that_cannot_be_served_is_told_once(asked, expected, referred, caplog, monkeypatch):
    def refused(*given):
        raise NotServed("its decoder has a way of its own")

    monkeypatch.setattr(Slots, "device", "cpu")
    monkeypatch.setattr(trial, "opened", refused)
    engine = opened()
    with caplog.at_level(logging.WARNING):
        assert engine.answer(*asked) == engine.answer(*asked) == expected
    told = "answers come from the engine `transformers`: its decoder has a way of its own"
    assert [record.getMessage() for record in caplog.records] == [told]
    assert referred == [7, 7]


def test_prompts_for_which_there_is_no_room_and_hooked_models_are_the_reference_s(
    asked, expected, referred, monkeypatch
):
    monkeypatch.setattr(Slots, "device", "cpu")
    engine = opened(slots=3, chunk=64)
    assert engine.answer(*asked) == expected
    assert referred == []
    long = sorted(len(prompt) for prompt in asked[0])[-3]
    monkeypatch.setattr(type(engine._slots), "fits", lambda self, prompt: len(prompt) < long)
    assert engine.answer(*asked) == expected
    assert referred == [sum(len(prompt) >= long for prompt in asked[0])]
    hook = engine.model.register_forward_hook(lambda *given: None)
    assert engine.answer(*asked) == expected
    assert referred[1:] == [7]
    hook.remove()


def test_both_engines_stand_on_one_loaded_model():
    assert opened().model is Transformers(DEMO, Limits(12), 1).model


def test_weights_that_stand_elsewhere_are_read_there(asked, monkeypatch):
    """In place they may change as they like."""
    monkeypatch.setattr(Slots, "device", "cpu")
    engine = opened(slots=7, chunk=64)
    first = engine._slots
    parameter = next(engine.model.parameters())
    kept = parameter.data
    parameter.data.mul_(1.0)
    assert engine._slots is first
    parameter.data = kept.clone()
    assert engine._slots is not first
    parameter.data = kept
