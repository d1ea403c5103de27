"""Slots, on the CPU: the same passes without graphs, against transformers' own `generate`."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from moe_safety.config import ModelConfig
from moe_safety.models.demo import language
from moe_safety.models.experts import use_our_experts
from moe_safety.models.io import load_chat, load_model
from moe_safety.models.slots import passes as slot_passes
from moe_safety.models.slots import trial
from moe_safety.models.slots.answering import Answering
from moe_safety.models.slots.pages import PAGE, Blocks, NotServed, attend_plainly
from moe_safety.models.slots.passes import BURST, Passes
from moe_safety.models.slots.trial import opened
from moe_safety.models.text import Chat, Limits, generate
from moe_safety.models.text.generate import Generator
from tests.families import build
from tests.templates import CHANNELS, OPENED, THINKS, template_tokenizer

HOT = 3.0
DEMO = ModelConfig(name="demo")


@pytest.fixture(scope="module")
def generator():
    return Generator(load_model(DEMO), load_chat(DEMO), Limits(24))


@pytest.fixture(scope="module")
def asked(generator):
    """Prompts, temperatures, seeds."""
    wraps = list(language.WRAPPERS.values())
    requests = language.requests(True)[-5:] + language.requests(False)[-6:]
    prompts = [generator.chat.prompt(wraps[n % 3](request)) for n, request in enumerate(requests)]
    prompts[4] = prompts[4] * 4  # longer than a pass
    return prompts, [(0.0, 1.0, HOT)[n % 3] for n in range(len(prompts))], [7 * n for n in range(len(prompts))]


@pytest.fixture(scope="module")
def expected(generator, asked):
    return generator.answer(*asked)


def of(passes, generator, limits=None):
    rules = generator.rules if limits is None else Generator(generator.model, generator.chat, limits).rules
    return Answering(passes, rules)


def test_answers_are_those_of_generate_while_slots_are_freed_and_refilled(generator, asked, expected):
    for slots, chunk, pages in ((3, 64, 20), (16, 256, 80)):
        answers = of(Passes(generator.model, slots, chunk, pages, 8), generator)(*asked)
        assert answers == expected


def test_prompts_wait_while_pages_are_taken(generator, asked, expected):
    answering = of(Passes(generator.model, 8, 64, 6, 8), generator)
    assert answering(*asked) == expected
    assert (len(answering.free), sorted(answering.pages)) == (8, [1, 2, 3, 4, 5])


def test_the_same_prompt_is_answered_alike_in_every_slot_to_the_bit(generator, asked):
    """Alone too, but for what a CPU's products of unequal height round otherwise; a GPU's are of one shape."""
    prompts, _, _ = asked
    passes = Passes(generator.model, 6, 96, 40, 8)
    answering = of(passes, generator, Limits(9))
    same = [prompts[1], prompts[2], prompts[4], prompts[1], prompts[3], prompts[1]]
    answers = answering(same, [HOT] * 6, [5] * 6)
    assert answers[0] == answers[3] == answers[5]
    assert torch.equal(passes.logits[0], passes.logits[3])
    assert torch.equal(passes.logits[0], passes.logits[5])
    together = passes.logits[0].clone()
    assert answering([prompts[1]], [HOT], [5]) == answers[:1]
    assert min(float((row - together).abs().max()) for row in passes.logits[:6]) < 1e-4


@pytest.mark.parametrize("limit", [1, BURST - 1, BURST, BURST + 1])
def test_limits_that_fall_anywhere_in_a_burst_are_kept(generator, asked, limit):
    short = Generator(generator.model, generator.chat, Limits(limit))
    passes = Passes(generator.model, 4, 64, 40, 8)
    assert Answering(passes, short.rules)(*asked) == short.answer(*asked)
    assert passes.said.shape == (4, BURST)


def test_a_prompt_for_which_there_is_no_room_is_seen_before(generator):
    answering = of(Passes(generator.model, 4, 64, 4, 8), generator)
    longest = 3 * PAGE - generator.rules.most
    assert answering.fits([5] * longest)
    assert not answering.fits([5] * (longest + 1))


SAID = {
    THINKS: ["<think>\nno no no\n</think>\n\nsure<|im_end|>", "sure<|im_end|>", "no" * 40, "<think>\n" + "no" * 40],
    OPENED: ["no no\n</think>\n\nsure<|im_end|>", "no" * 40],
    CHANNELS: [
        "<|channel|>analysis<|message|>no<end><|start|>assistant<|channel|>final<|message|>sure<|return|>",
        "<|channel|>final<|message|>sure<end>",
        "no" * 60,
    ],
}


@pytest.mark.parametrize("template", SAID)
@pytest.mark.parametrize("limits", [Limits(4), Limits(8, thinking=12), Limits(6, thinking=80)])
def test_thinking_is_closed_and_cut_as_by_generate(template, limits, monkeypatch):
    from transformers import OlmoeConfig, OlmoeForCausalLM

    chat = Chat(template_tokenizer(template))
    words = [chat.tokenizer(text, add_special_tokens=False).input_ids for text in SAID[template]]
    filler = chat.tokenizer("sure", add_special_tokens=False).input_ids[0]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = OlmoeConfig(vocab_size=len(chat.tokenizer), num_experts=4, num_experts_per_tok=2, **sizes)
    model = use_our_experts(OlmoeForCausalLM(config).eval())
    prompt = chat.prompt([{"role": "user", "content": "tell me"}])

    def next_of(row, said):
        return words[row][said] if row < len(words) and said < len(words[row]) else filler

    class Scripted(torch.nn.Module):
        def __call__(self, ids, scores):
            for row in range(len(scores)):
                scores[row] = 0.0
                scores[row, next_of(row, ids.shape[1] - len(prompt))] = 10.0
            return scores

    def scripted(logits, heats, low, high, said):
        return torch.tensor([next_of(row, int(count)) for row, count in enumerate(said)])

    monkeypatch.setattr(generate, "SeededSampling", lambda *given: Scripted())
    monkeypatch.setattr(slot_passes, "sampled", scripted)
    rows = len(words)
    asked = [prompt] * rows, [0.0] * rows, [0] * rows
    generator = Generator(model, chat, limits)
    answers = Answering(Passes(model, 4, 64, 20, 4), generator.rules)(*asked)
    assert answers == generator.answer(*asked)


@pytest.mark.parametrize("size", [1, 32])
def test_attention_over_pages_is_attention(size):
    chance = torch.Generator().manual_seed(0)
    heads, groups, width, places = 6, 2, 16, 9 * PAGE
    keys, values = torch.randn(2, places, groups, width, generator=chance)
    table = torch.tensor([[3, 7, 2], [5, 1, 0], [8, 0, 0]], dtype=torch.int32)
    first, count = torch.tensor([130, 64, 0, 0]), torch.tensor([size, (size + 1) // 2, size, 0])
    blocks = Blocks(size, torch.tensor([0, 1, 2, 0]), first, count, table)
    query = torch.randn(heads, 4 * size, width, generator=chance)
    found = attend_plainly(query, keys, values, blocks, 0.3)
    for block in range(3):
        own = table[blocks.slot[block]].long()[:, None] * PAGE + torch.arange(PAGE)
        key, value = (each[own.view(-1)].transpose(0, 1).repeat_interleave(3, 0) for each in (keys, values))
        for one in range(int(count[block])):
            at, seen = block * size + one, int(first[block]) + one + 1
            right = scaled_dot_product_attention(query[:, at, None], key[:, :seen], value[:, :seen], scale=0.3)
            assert torch.allclose(found[at], right[:, 0], atol=1e-5)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe", "glm4_moe", "qwen2_moe", "granitemoe", "minimax_m2"])
def test_a_usual_family_is_served(family):
    model = use_our_experts(build(family))
    assert opened(model, 2, 64).cache.count == 1 + 2 * 1024 // PAGE
    assert model.config._attn_implementation != "moe_safety_pages", "it is as it was"


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("mixtral", "not all of its layers see the whole prompt"),
        ("qwen3_next", "not all of its layers see the whole prompt"),
        ("deepseek_v3", "its decoder has a way of its own"),
        ("flint", "its attention takes s_aux"),
    ],
)
def test_another_family_is_told_why_not(family, told):
    model = use_our_experts(build(family))
    with pytest.raises(NotServed, match=told):
        opened(model, 2, 64)
    assert model.config._attn_implementation != "moe_safety_pages"


def test_passes_that_cannot_be_recorded_are_told(monkeypatch):
    def refuses(self):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(Passes, "capture", refuses)
    passes = opened(use_our_experts(build("olmoe")), 2, 64)
    with pytest.raises(NotServed, match=r"cannot be recorded: operation not permitted when stream is capturing$"):
        trial._record(passes)


def test_mixtral_without_a_window_is_served():
    model = use_our_experts(build("mixtral"))
    model.config.sliding_window = None
    assert opened(model, 2, 64).slots == 2
