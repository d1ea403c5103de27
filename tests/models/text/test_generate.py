import pytest
import torch

from moe_safety.config import ModelConfig
from moe_safety.models.demo import language
from moe_safety.models.experts.forward import NAME
from moe_safety.models.io import load_chat, load_model
from moe_safety.models.text import Answer, Limits
from moe_safety.models.text.generate import Generator, SeededSampling
from tests.templates import CHANNELS, OPENED, PLAIN, THINKS, template_tokenizer


@pytest.fixture(scope="module")
def generator():
    config = ModelConfig(name="demo")
    return Generator(load_model(config), load_chat(config), Limits(24))


@pytest.fixture(scope="module")
def prompts(generator):
    wraps = list(language.WRAPPERS.values())
    requests = language.requests(True)[-4:] + language.requests(False)[-5:]
    return [generator.chat.prompt(wraps[n % 3](request)) for n, request in enumerate(requests)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_neighbours(generator, prompts, temperature):
    seeds = list(range(len(prompts)))
    together = generator.answer(prompts, [temperature] * len(prompts), seeds)
    alone = [generator.answer([p], [temperature], [s])[0] for p, s in zip(prompts, seeds, strict=True)]
    reverse = generator.answer(prompts[::-1], [temperature] * len(prompts), seeds[::-1])[::-1]
    assert together == alone == reverse
    assert all(answer.tokens and answer.ended for answer in together)


def test_answers_stop_before_the_end_of_the_turn(generator, prompts):
    text = generator.chat.text(generator.answer(prompts[:1], [0.0], [0])[0].tokens)
    assert text == language.REFUSAL


def test_an_answer_that_ran_into_the_limit_has_not_ended(generator, prompts):
    whole = generator.answer(prompts[:1], [0.0], [0])[0]
    for limit, ended in ((len(whole.tokens) - 1, False), (len(whole.tokens) + 1, True)):
        (cut,) = Generator(generator.model, generator.chat, Limits(limit)).answer(prompts[:1], [0.0], [0])
        assert (cut.tokens, cut.ended) == (whole.tokens[:limit], ended)
    assert generator.answer(prompts[:1], [0.0], [0]) == [whole], "each keeps its own limits"


def test_the_model_keeps_its_own_settings(generator, prompts):
    """What ends an answer stands there for the next generator, and a lent model solves tasks within its own limits."""
    own = generator.model.generation_config
    generator.answer(prompts[:1], [0.0], [0])
    assert generator.model.generation_config is own
    assert own.max_new_tokens != generator.rules.most


class Scripted(torch.nn.Module):
    """Makes a small model say what it is told to, row by row, whatever it is asked; then one word without end."""

    def __init__(self, scripts, start, vocabulary, filler):
        super().__init__()
        self.scripts, self.start, self.vocabulary, self.filler = scripts, start, vocabulary, filler

    def __call__(self, input_ids, scores):
        said = input_ids.shape[1] - self.start
        for row, script in enumerate(self.scripts):
            scores[row] = 0.0
            scores[row, script[said] if said < len(script) else self.filler] = 10.0
        return scores


def scripted(template, limits, texts, monkeypatch):
    """What a model that would say these texts is found to have said."""
    from transformers import OlmoeConfig, OlmoeForCausalLM

    from moe_safety.models.text import Chat, generate

    chat = Chat(template_tokenizer(template))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = OlmoeForCausalLM(OlmoeConfig(vocab_size=len(chat.tokenizer), num_experts=4, num_experts_per_tok=2, **sizes))
    prompt = chat.prompt([{"role": "user", "content": "tell me"}])
    scripts = [chat.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    filler = chat.tokenizer("sure", add_special_tokens=False).input_ids[0]
    real = generate.SeededSampling
    monkeypatch.setattr(
        generate, "SeededSampling", lambda *given: Scripted(scripts, len(prompt), len(chat.tokenizer), filler)
    )
    answers = Generator(model.eval(), chat, limits).answer([prompt] * len(texts), [0.0] * len(texts), [0] * len(texts))
    monkeypatch.setattr(generate, "SeededSampling", real)
    words = chat.tokenizer.decode
    return [(chat.thinking(one.prefix), words(one.tokens), one.ended) for one in answers], answers


def test_thinking_has_a_budget_of_its_own(monkeypatch):
    """It takes nothing from the answer; where it is used up, thinking is closed and the model answers."""
    texts = [
        "<think>\nno no no\n</think>\n\nsure<|im_end|>",
        "sure<|im_end|>",
        "<think>\n" + "no" * 40,
        "<think>\nno\n</think>\n\n" + "sure " * 20,
    ]
    found, answers = scripted(THINKS, Limits(answer=8, thinking=12), texts, monkeypatch)
    assert found[0] == ("no no no", "sure", True)
    assert found[1] == (None, "sure", True)
    assert found[2][0].startswith("nono")
    assert not found[2][2]
    assert len(answers[2].tokens) == 8, "the answer has all its room"
    assert len(answers[2].prefix) <= 12 + 4
    assert (len(answers[3].tokens), found[3][2]) == (8, False)


def test_without_a_budget_a_model_answers_as_if_it_had_thought_nothing(monkeypatch):
    _, (answer,) = scripted(THINKS, Limits(answer=4), ["no" * 40], monkeypatch)
    assert len(answer.tokens) == 4
    (found,), _ = scripted(OPENED, Limits(answer=4), ["no" * 40], monkeypatch)
    assert found[0] is None


def test_marks_that_end_a_turn_elsewhere_may_stand_in_thinking(monkeypatch):
    analysis = "<|channel|>analysis<|message|>no<end><|start|>assistant"
    final = "<|channel|>final<|message|>sure"
    texts = [f"{analysis}{final}<|return|>", f"{analysis}{final}<end>", f"{final}<|return|>"]
    found, _ = scripted(CHANNELS, Limits(answer=6, thinking=80), texts, monkeypatch)
    assert found == [("no", "sure", True), ("no", "sure", True), (None, "sure", True)]


def test_a_family_that_does_not_think_is_answered_as_before(monkeypatch):
    found, answers = scripted(PLAIN, Limits(answer=4, thinking=50), ["sure<|im_end|>", "no" * 9], monkeypatch)
    assert found[0] == (None, "sure", True)
    assert answers[1] == Answer([], answers[1].tokens, False)
    assert len(answers[1].tokens) == 4


def test_sampling_follows_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0])
    rows = 4000
    noisy = SeededSampling([2.0] * rows, list(range(rows)), torch.device("cpu"))(None, logits.repeat(rows, 1))
    shares = torch.bincount(noisy.argmax(dim=1), minlength=3) / rows
    assert torch.allclose(shares, torch.softmax(logits / 2.0, dim=0), atol=0.03)


def test_generation_keeps_this_program_s_experts_function(generator, prompts):
    generator.answer(prompts[:1], [0.0], [0])
    assert generator.model.config._experts_implementation == NAME
