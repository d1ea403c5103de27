"""The local attack forms."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.config import WrapperName
from moe_safety.inputs import WRAPPERS, wrap

names = st.sampled_from(sorted(WRAPPERS))


def test_every_configurable_wrapper_is_there():
    assert set(get_args(WrapperName)) == set(WRAPPERS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flip-word-order", "twice zorp the blick"),
        ("flip-chars-in-word", "kcilb eht proz eciwt"),
        ("flip-chars-in-text", "eciwt proz eht kcilb"),
    ],
)
def test_what_each_makes(name, text):
    system, user = wrap(name, "blick the\n zorp  twice", "Be kind.")
    assert user == {"role": "user", "content": text}
    assert system["content"] == f"Be kind. {WRAPPERS[name].task}"


@given(names, st.text())
def test_flipping_twice_restores_the_words(name, text):
    flip = WRAPPERS[name].flip
    assert flip(flip(text)) == " ".join(text.split())


@given(names, st.text())
def test_without_a_system_message_the_user_tells_the_task(name, text):
    (message,) = wrap(name, text, "")
    assert message["role"] == "user"
    assert message["content"] == f"{WRAPPERS[name].task}\n\n{WRAPPERS[name].flip(text)}"
