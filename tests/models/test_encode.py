import pytest
import torch
from jinja2 import TemplateError

from moe_safety.errors import InputError
from moe_safety.models.demo.tokenizer import END, demo_tokenizer
from moe_safety.models.encode import answer_tokens, cut_left, end_of_turn, pad_left, prompt_tokens

MESSAGES = [{"role": "system", "content": "you are a wizard"}, {"role": "user", "content": "tell me"}]


@pytest.fixture
def tokenizer():
    return demo_tokenizer()


def test_prompt_and_answer_are_the_template_s_own_text(tokenizer):
    tokens = prompt_tokens(tokenizer, MESSAGES) + answer_tokens(tokenizer, "sure")
    whole = tokenizer.apply_chat_template(
        [*MESSAGES, {"role": "assistant", "content": "sure"}], tokenize=True, return_dict=False
    )
    assert [token for token in tokens if token != tokenizer.convert_tokens_to_ids("<|assistant|>")] == [
        token for token in whole if token != tokenizer.convert_tokens_to_ids("<|assistant|>")
    ]
    assert tokens[-1] == tokenizer.convert_tokens_to_ids(END)


def test_the_end_of_a_turn_is_read_from_the_template(tokenizer):
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(END)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '<|user|>' }}{% endfor %}"
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-turn token"):
        end_of_turn(tokenizer)


def test_a_template_without_a_system_role_gets_its_text_in_the_first_turn(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    assert tokenizer.decode(prompt_tokens(tokenizer, MESSAGES)) == "you are a wizard tell me"
    with pytest.raises(TemplateError):
        prompt_tokens(tokenizer, MESSAGES[:1])


def test_no_chat_template_is_one_clear_line(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        prompt_tokens(tokenizer, MESSAGES)


def test_prompts_are_cut_from_the_left():
    assert cut_left([1, 2, 3, 4], 2) == [3, 4]
    assert cut_left([1, 2], 5) == [1, 2]
    assert cut_left([1, 2], 0) == []


def test_padding_stands_on_the_left_and_has_no_position():
    padded = pad_left([[5, 6, 7], [8]], pad=0)
    assert padded.input_ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert padded.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert torch.equal(padded.position_ids, torch.tensor([[0, 1, 2], [0, 0, 0]]))
