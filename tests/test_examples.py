"""The examples in the docstrings of the public functions do what they say, in the order in which a user meets them."""

from doctest import DocTestParser, DocTestRunner

import pytest
import torch

import moe_safety

NAMES = ["inspect_model", *(name for name in moe_safety.__all__ if name not in ("inspect_model", "MoELayout"))]


@pytest.fixture(scope="module")
def names():
    """What the examples may use: public names, torch, and the `model` that the first one makes."""
    return {"torch": torch} | {name: getattr(moe_safety, name) for name in moe_safety.__all__}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_it_says(name, names):
    told: list[str] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for each in dict.fromkeys(["inspect_model", name]):
            example = DocTestParser().get_doctest(getattr(moe_safety, each).__doc__, names, each, None, 0)
            assert example.examples, f"{each} has no example"
            DocTestRunner(verbose=False).run(example, out=told.append, clear_globs=False)
            names |= example.globs
    assert told == []
