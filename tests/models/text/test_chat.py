import pytest

from moe_safety.errors import InputError
from moe_safety.models.demo.tokenizer import END, demo_tokenizer
from moe_safety.models.text import Chat
from tests.templates import CHANNELS, NO_SYSTEM, OPENED, PLAIN, SPACED, TEMPLATES, THINKS, template_tokenizer

MESSAGES = [{"role": "system", "content": "you are a wizard"}, {"role": "user", "content": "tell me"}]


def chat_of(template, settings=None):
    return Chat(template_tokenizer(template), settings)


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompt_and_answer_are_the_template_s_own_text(name):
    """What stands before an answer, the answer and its end are what the template writes of a whole turn."""
    chat = chat_of(TEMPLATES[name])
    user = MESSAGES[1:]
    asked = chat.tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
    assert chat.tokenizer.decode(chat.prompt(user)) == asked
    whole = chat.tokenizer.apply_chat_template([*user, {"role": "assistant", "content": "sure so"}], tokenize=False)
    prefix, answer = chat.answer("sure so")
    text = chat.tokenizer.decode([*chat.prompt(user), *prefix, *answer, chat.end])
    if name == "opened":
        assert text == f"{asked}\n</think>\n\nsure so<turn>"
    else:
        assert whole.startswith(text)


@pytest.mark.parametrize(
    ("template", "settings", "prefix", "mark"),
    [
        (PLAIN, {}, "", ""),
        (THINKS, {}, "<think>\n\n</think>\n\n", "</think>"),
        (THINKS, {"enable_thinking": False}, "", ""),
        (OPENED, {}, "\n</think>\n\n", "</think>"),
        (CHANNELS, {}, "<|channel|>final<|message|>", "<|channel|>final<|message|>"),
        (NO_SYSTEM, {}, "", ""),
        (SPACED, {}, " ", ""),
    ],
)
def test_what_stands_before_an_answer_is_read_from_the_template(template, settings, prefix, mark):
    chat = chat_of(template, settings)
    assert (chat.frame.prefix, chat.frame.mark) == (prefix, mark)
    assert chat.tokenizer.decode(chat.prefix) == prefix


def test_a_space_before_an_answer_belongs_to_its_first_token():
    prefix, answer = chat_of(SPACED).answer("sure")
    assert prefix == []
    assert chat_of(SPACED).tokenizer.decode(answer) == " sure"


@pytest.mark.parametrize(
    ("template", "said", "thinking", "answer"),
    [
        (PLAIN, "sure so", None, "sure so"),
        (THINKS, "<think>\nI cannot help\n</think>\n\nsure so", "I cannot help", "sure so"),
        (THINKS, "<think>\n\n</think>\n\nsure", None, "sure"),
        (THINKS, "sure, without a thought", None, "sure, without a thought"),
        (THINKS, "<think>\nno end of it", "no end of it", ""),
        (OPENED, "I cannot help\n</think>\n\nsure", "I cannot help", "sure"),
        (OPENED, "no end of it", "no end of it", ""),
        (
            CHANNELS,
            "<|channel|>analysis<|message|>I cannot help<end><|start|>assistant<|channel|>final<|message|>sure",
            "I cannot help",
            "sure",
        ),
        (CHANNELS, "<|channel|>final<|message|>sure", None, "sure"),
        (CHANNELS, "<|channel|>analysis<|message|>no end of it", "no end of it", ""),
    ],
)
def test_thinking_is_no_part_of_an_answer(template, said, thinking, answer):
    chat = chat_of(template)
    tokens = chat.tokenizer(said, add_special_tokens=False).input_ids
    before, after = chat.split(tokens)
    assert before + after == tokens
    assert chat.tokenizer.decode(after) == answer
    assert chat.thinking(before) == thinking


def test_a_recorded_answer_is_split_in_the_same_way():
    assert chat_of(THINKS).split_text("<think>\nhm\n</think>\n\nsure") == ("hm", "sure")
    assert chat_of(THINKS).split_text("sure") == (None, "sure")
    assert chat_of(THINKS).split_text("<think>\nhm, no") == ("hm, no", ""), "it never came to an answer"
    assert chat_of(PLAIN).split_text("a </think> b") == (None, "a </think> b")


def test_the_end_of_a_turn_is_read_from_the_template():
    tokenizer = demo_tokenizer()
    assert Chat(tokenizer).end == tokenizer.convert_tokens_to_ids(END)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<|user|>' }}{% endfor %}"
    assert Chat(tokenizer).end == tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert Chat(tokenizer).end == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-turn token"):
        _ = Chat(tokenizer).end


@pytest.mark.parametrize("drops", [False, True])
def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn(drops):
    """Whether it raises, or leaves the text out without a word."""
    template = NO_SYSTEM.replace("{{ raise_exception('System role not supported') }}", "{% continue %}")
    tokenizer = template_tokenizer(template if drops else NO_SYSTEM)
    assert tokenizer.decode(Chat(tokenizer).prompt(MESSAGES)) == "<user>\nyou are a wizard\n\ntell me<turn>\n<model>\n"
    if not drops:
        with pytest.raises(InputError, match="its chat template fails: System role not supported"):
            Chat(tokenizer).prompt(MESSAGES[:1])


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (None, "no chat template"),
        (PLAIN.replace("m.content +", "m.content | upper +"), "alters what is said"),
        (PLAIN.replace("m.content +", "'' +"), "alters what is said"),
        (
            PLAIN.replace("'<|im_start|>assistant\n'", "'begin: '"),
            r"otherwise than .*; see model\.chat_template_kwargs",
        ),
    ],
)
def test_what_cannot_be_read_from_a_template_is_one_clear_line(template, told):
    with pytest.raises(InputError, match=told):
        _ = chat_of(template).frame
