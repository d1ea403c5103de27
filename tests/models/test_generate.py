import pytest
import torch

from moe_safety.config import ModelConfig
from moe_safety.models.demo import language
from moe_safety.models.encode import prompt_tokens
from moe_safety.models.experts.forward import NAME
from moe_safety.models.generate import Generator, SeededSampling
from moe_safety.models.load import load_model, load_tokenizer


@pytest.fixture(scope="module")
def generator():
    config = ModelConfig(name="demo")
    return Generator(load_model(config), load_tokenizer(config), max_new_tokens=24)


@pytest.fixture(scope="module")
def prompts(generator):
    wraps = list(language.WRAPPERS.values())
    requests = language.requests(True)[-4:] + language.requests(False)[-5:]
    return [prompt_tokens(generator.tokenizer, wraps[n % 3](request)) for n, request in enumerate(requests)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_neighbours(generator, prompts, temperature):
    seeds = list(range(len(prompts)))
    together = generator.answer(prompts, [temperature] * len(prompts), seeds)
    alone = [generator.answer([p], [temperature], [s])[0] for p, s in zip(prompts, seeds, strict=True)]
    reverse = generator.answer(prompts[::-1], [temperature] * len(prompts), seeds[::-1])[::-1]
    assert together == alone == reverse
    assert all(together)


def test_answers_stop_before_the_end_of_the_turn(generator, prompts):
    text = generator.text(generator.answer(prompts[:1], [0.0], [0])[0])
    assert text == language.REFUSAL


def test_sampling_follows_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0])
    rows = 4000
    noisy = SeededSampling([2.0] * rows, list(range(rows)), torch.device("cpu"))(None, logits.repeat(rows, 1))
    shares = torch.bincount(noisy.argmax(dim=1), minlength=3) / rows
    assert torch.allclose(shares, torch.softmax(logits / 2.0, dim=0), atol=0.03)


def test_generation_keeps_this_program_s_experts_function(generator, prompts):
    generator.answer(prompts[:1], [0.0], [0])
    assert generator.model.config._experts_implementation == NAME
