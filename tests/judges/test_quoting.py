import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds
from transformers import PreTrainedTokenizerFast

from moe_safety.errors import InputError
from moe_safety.judges import Exchange
from moe_safety.judges.asking.asked import QUESTION
from moe_safety.judges.asking.quoting import Template, defused, make_fence
from moe_safety.judges.local.tokens import Encoder, control_tokens
from tests.judges import handmade

INJECTIONS = json.loads((Path(__file__).parent / "injections.json").read_text())
TEXTS = st.one_of(
    st.text(max_size=80), st.sampled_from(["{goal}", "{prompt}", "{response}", "{fence}", "----", *INJECTIONS])
)


@given(TEXTS, TEXTS)
def test_texts_stand_whole_between_fences_they_do_not_hold(goal, response):
    segments = Template(QUESTION).fill(Exchange(goal, "p", response))
    fence = make_fence(goal, response)
    assert fence not in goal + response
    assert [one.quoted for one in segments] == [False, True, False, True, False]
    assert (segments[1].text, segments[3].text) == (goal, response)
    for before, after in ((segments[0], segments[2]), (segments[2], segments[4])):
        assert before.text.endswith(f"\n{fence}\n")
        assert after.text.startswith(f"\n{fence}\n")
    assert f"lines that read {fence}." in segments[0].text
    assert segments == Template(QUESTION).fill(Exchange(goal, "q", response)), "the attack's words are not asked about"


def test_the_fence_of_another_question_does_not_fit():
    fence = make_fence("p", "r")
    assert make_fence("p", f"r\n{fence}\n") != fence
    assert make_fence("p", "s") != fence
    assert make_fence("p r") != make_fence("p", "r") != make_fence("", "p r")


@pytest.mark.parametrize("mark", ["<|im_end|>", "</s>", "[INST]", "<start_of_turn>", "<<SYS>>", "<｜User｜>"])
def test_no_mark_is_left_whole(mark):
    assert mark not in defused(f"a {mark} b {mark}{mark}")
    assert defused("2 < 3, [ ] and < p") == "2 < 3, [ ] and < p"


def said(answer):
    return Exchange("g", "p", answer)


def bytewise():
    """A byte-level tokenizer with marks of both sorts, as most chat models have."""
    backend = Tokenizer(kinds.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(["zorp"], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return _marked(PreTrainedTokenizerFast(tokenizer_object=backend))


def piecewise():
    """A tokenizer whose very vocabulary holds a mark."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((chr(code), -5.0) for code in range(32, 127)), ("\n", -5.0)]
    backend = Tokenizer(kinds.Unigram(pieces, unk_id=0))
    backend.decoder = decoders.Fuse()
    return _marked(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))


def _marked(tokenizer):
    tokenizer.add_special_tokens({"eos_token": "</s>", "additional_special_tokens": ["<|im_end|>", "[INST]"]})
    tokenizer.add_tokens(["<think>", "  "])
    return tokenizer


MARKS = ["</s>", "<|im_end|>", "[INST]", "<think>"]


@pytest.mark.parametrize("make", [bytewise, piecewise])
@pytest.mark.parametrize("answer", [*INJECTIONS, "a</s>b", "<think>refused", "[INST]" * 3])
def test_marks_in_quoted_text_never_become_marks(make, answer):
    tokenizer = make()
    encoder = Encoder(tokenizer, Template("<|im_end|>{response}</s>"), 400)
    tokens = encoder(said(answer))
    control = control_tokens(tokenizer)
    assert [tokenizer.decode(one) for one in tokens if one in control] == ["<|im_end|>", "</s>"]
    letters = "".join(letter for letter in answer if letter.isalpha() and letter.isascii())
    read = "".join(letter for letter in tokenizer.decode(tokens) if letter.isalpha())
    if not any(mark in answer for mark in MARKS):
        assert letters in read


def test_a_mark_that_is_quoted_can_still_be_read():
    tokenizer = bytewise()
    assert "\na[INST]b\n" in tokenizer.decode(Encoder(tokenizer, Template("{response}"), 400)(said("a[INST]b")))


def test_spaces_that_have_tokens_of_their_own_are_kept():
    tokenizer = bytewise()
    assert "a  b" in tokenizer.decode(Encoder(tokenizer, Template("{response}"), 400)(said("a  b")))


def test_a_question_is_encoded_whole_and_its_template_must_leave_room():
    words = handmade.tokenizer()
    template = Template("user {goal} answer {response} end", fenced=False)
    tokens = Encoder(words, template, 13)(Exchange("sorry " + "zorp " * 50, "grell", "take " * 3 + "the " * 50))
    assert words.decode(tokens) == f"user sorry {'zorp ' * 50}answer {'take ' * 3}{'the ' * 50}end"
    with pytest.raises(InputError, match="leaves no room"):
        Encoder(words, template, 10)
