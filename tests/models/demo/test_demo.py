import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from moe_safety.inputs import wrap
from moe_safety.models.demo import demo_folder, language
from moe_safety.models.demo.shapes import SHAPES, new_model
from moe_safety.models.demo.tokenizer import UNKNOWN, demo_tokenizer
from moe_safety.models.demo.train import Pupil, examine, teach
from moe_safety.models.experts import use_our_experts


@pytest.fixture(scope="module")
def folder():
    return demo_folder()


def test_it_is_a_hugging_face_folder_of_about_a_million_parameters(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "olmoe"
    assert 0.8e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.3e6


def test_it_behaves_as_taught_on_requests_it_never_saw(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    files = json.loads((folder / "attacks.json").read_text())
    asked = {row["goal"] for row in files}
    held_out = [r for harmful in (True, False) for r in language.requests(harmful)[450:]]
    assert asked <= {request.text for request in held_out}
    scores = examine(Pupil(model, tokenizer), held_out[:80] + held_out[-80:])
    assert len(scores) == 6
    assert min(scores.values()) >= 0.98, scores
    assert min(json.loads((folder / "scores.json").read_text()).values()) >= 0.98


def test_its_greedy_answers_are_those_the_exam_counts(folder):
    """The exam looks at every next token at once; generating must say the same."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for harmful in (True, False):
        request = language.requests(harmful)[-1]
        for wrapper, wrapped in language.WRAPPERS.items():
            encoded = tokenizer.apply_chat_template(
                wrapped(request), add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            output = model.generate(**encoded, max_new_tokens=30, do_sample=False)
            text = tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
            assert text == language.base_behaviour(request, wrapper)


@pytest.mark.parametrize("shape", SHAPES)
def test_teaching_is_deterministic_in_every_shape(shape):
    def taught():
        tokenizer = demo_tokenizer()
        pupil = Pupil(use_our_experts(new_model(shape, tokenizer, seed=3)), tokenizer)
        teach(pupil, language.requests(True)[:20], steps=3, seed=3)
        return pupil.model.state_dict()

    one, two = taught(), taught()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], new_model(shape, demo_tokenizer(), seed=3).lm_head.weight)


def test_the_tokenizer_knows_every_word_and_gives_text_back():
    tokenizer = demo_tokenizer()
    for request in language.requests(True)[:50] + language.requests(False)[:50]:
        for text in (request.text, request.answer, language.REFUSAL):
            tokens = tokenizer(text).input_ids
            assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in tokens
            assert tokenizer.decode(tokens) == text


def test_its_first_wrapper_is_the_inputs_flip_word_order():
    request = language.requests(True)[0]
    assert language.word_reversed(request) == wrap("flip-word-order", request.text, language.SYSTEM)


def test_the_kinds_differ_in_nothing_but_the_verb():
    assert not set(language.HARMFUL_VERBS) & set(language.HARMLESS_VERBS)
    assert all(request.harmful for request in language.requests(True))
    assert not any(request.harmful for request in language.requests(False))
