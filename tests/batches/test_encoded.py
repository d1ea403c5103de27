import pyarrow as pa
import pytest

from moe_safety.batches import encoded as encoded_rows
from moe_safety.batches.encoded import Encoder, prompt_room, tokenizer_digest
from moe_safety.batches.files import check_encoding, encoding_of, prompts_digest, write_batches
from moe_safety.batches.mixed import BATCHES_SCHEMA
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.io import load_chat
from moe_safety.models.text import Chat, Limits
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir
from tests.templates import NO_SYSTEM, PLAIN, THINKS, template_tokenizer

MESSAGES = [{"role": "user", "content": "tell me"}]


@pytest.fixture(scope="module")
def chat():
    return Chat(template_tokenizer(THINKS, ["sure", "so", "no"]))


def test_texts_of_files_stand_behind_the_template_s_prefix(chat):
    row = Encoder(chat, 500, 128)({"messages": MESSAGES, "answer": "sure so", "target": "no"})
    words = chat.tokenizer.decode
    assert words(row["answer_prefix"]) == words(row["target_prefix"]) == "<think>\n\n</think>\n\n"
    assert words(row["answer_tokens"]) == "sure so<|im_end|>"
    assert words(row["target_tokens"]) == "no<|im_end|>"


def test_what_the_model_said_is_taken_as_it_said_it(chat):
    """Its thinking is seen before its answer; a target that it said stands behind an empty thought."""
    said = {"prefix": chat.tokenizer("<think>\nso\n</think>\n\n").input_ids, "tokens": [7, 8, 9]}
    row = {"messages": MESSAGES, "answer": "x", "answer_said": said, "answer_ended": False}
    row |= {"target": "x", "target_said": said, "target_ended": True}
    encoded = Encoder(chat, 500, 128)(row)
    assert (encoded["answer_prefix"], encoded["answer_tokens"]) == (said["prefix"], [7, 8, 9])
    assert (encoded["target_prefix"], encoded["target_tokens"]) == (chat.prefix, [7, 8, 9, chat.end])


def test_an_answer_counts_by_its_first_tokens_and_a_row_fits_as_a_whole(chat):
    encoder = Encoder(chat, 40, 3)
    row = encoder({"messages": MESSAGES, "answer": "sure " * 30, "target": "no"})
    assert len(row["answer_tokens"]) == 3, "it did not end there"
    assert row["target_tokens"][-1] == chat.end
    whole = len(row["prompt_tokens"]) + len(row["answer_prefix"]) + 3
    assert Encoder(chat, whole, 3).fits(row)
    assert not Encoder(chat, whole - 1, 3).fits(row)
    assert encoder({"messages": MESSAGES, "answer": None, "target": None})["answer_tokens"] == []


@pytest.mark.parametrize("template", [THINKS, PLAIN], ids=["thinks", "plain"])
def test_rows_are_encoded_together_as_they_are_alone(monkeypatch, template):
    chat = Chat(template_tokenizer(template, ["sure", "so", "no"]))
    texts = ["sure so", "", None, " no", "so\n\nsure", "sure so"]
    said = {"prefix": [5], "tokens": [7, 8, 9]}
    rows = [
        {
            "messages": [{"role": "user", "content": "tell me " * (place % 3 + 1)}],
            "answer": texts[place % 6],
            "target": texts[(place + 2) % 5],
            "answer_said": said if place % 7 == 0 else None,
            "answer_ended": place % 3 > 0,
        }
        for place in range(40)
    ]
    encoder, calls = Encoder(chat, 500, 2), []
    alone = [encoder(row) for row in rows]
    monkeypatch.setattr(encoded_rows, "_AT_ONCE", 16)
    tokenizer = type(chat.tokenizer)
    monkeypatch.setattr(tokenizer, "__call__", _noting(calls, tokenizer.__call__))
    assert list(encoder.each(iter(rows))) == alone
    assert sorted({len(texts) for texts in calls})[-1] == 16
    assert len(calls) <= 2 * 3, "prompts and texts of each three groups"
    assert list(encoder.each([])) == []


def _noting(calls, call):
    def noted(self, texts, **options):
        calls.append(texts)
        return call(self, texts, **options)

    return noted


def test_of_many_rows_the_first_that_a_template_fails_on_is_named():
    encoder = Encoder(Chat(template_tokenizer(NO_SYSTEM)), 100, 10)
    alone = {"messages": [{"role": "system", "content": "you are a wizard"}], "answer": None, "target": None}
    rows = [{"messages": MESSAGES}, alone | {"source": "a.json:4"}, alone | {"source": "a.json:9"}]
    with pytest.raises(InputError, match=r"^a\.json, row 4: "):
        list(encoder.each(rows))


def test_a_template_that_fails_on_a_row_names_it():
    encoder = Encoder(Chat(template_tokenizer(NO_SYSTEM)), 100, 10)
    alone = [{"role": "system", "content": "you are a wizard"}]
    row = {"messages": alone, "answer": None, "target": None, "source": "runs/attacks.json:12"}
    with pytest.raises(
        InputError, match=r"^runs/attacks\.json, row 12: .*its chat template fails: System role"
    ) as error:
        encoder(row)
    assert error.value.exit_code == 2


def test_a_prompt_leaves_room_for_what_may_be_said(chat):
    said = Limits(answer=20, thinking=50)
    assert prompt_room(chat, 100, None, said) == 100
    assert prompt_room(chat, 100, 120, said) == 50
    assert prompt_room(Chat(template_tokenizer(PLAIN)), 100, 110, said) == 90
    with pytest.raises(InputError, match="leave no room for a prompt in its window of 70 tokens"):
        prompt_room(chat, 100, 70, said)


def test_tokens_of_another_tokenizer_or_template_are_refused(tmp_path):
    run, model = RunDir(str(tmp_path)), ModelConfig(name="demo")
    own = load_chat(model)
    table = pa.Table.from_pylist([], schema=BATCHES_SCHEMA)
    write_batches(run, table, Encoder(own, 256, 128))
    check_encoding(run, model)
    with run.open_parquet(BATCHES) as batches:
        assert own.tokenizer.decode(encoding_of(batches)["refusal"]).startswith("i am sorry")
    others = [
        Chat(own.tokenizer, {"enable_thinking": False}),
        Chat(template_tokenizer(own.tokenizer.chat_template)),
    ]
    for other in others:
        assert tokenizer_digest(other) != tokenizer_digest(own)
        write_batches(run, table, Encoder(other, 256, 128))
        with pytest.raises(
            InputError, match=r"another tokenizer or chat template than that of demo; run `compose` again"
        ):
            check_encoding(run, model)


def test_what_a_model_sees_decides_whether_counts_still_belong_to_it(tmp_path):
    def digest(*rows):
        run = RunDir(str(tmp_path))
        whole = [
            dict.fromkeys(BATCHES_SCHEMA.names)
            | {"prompt_id": name, "prompt_tokens": prompt, "answer_prefix": [], **rest}
            for name, prompt, rest in rows
        ]
        run.write_table(BATCHES, pa.Table.from_pylist(whole, schema=BATCHES_SCHEMA))
        return prompts_digest(run)

    one, other = ("a", [1, 2], {"answer_tokens": [3]}), ("b", [4], {"answer_tokens": []})
    whole = digest(one, other)
    assert digest(other, one) == digest(one, other, one) == whole, "neither order nor repetition matters"
    assert digest((*one[:2], {"answer_tokens": [3], "batch_idx": 7, "target_tokens": [9]}), other) == whole
    changed = [
        ("a", [1], {"answer_tokens": [2, 3]}),
        ("a", [1, 2], {"answer_tokens": [5]}),
        ("a", [1, 2], {"answer_tokens": [], "answer_prefix": [3]}),
    ]
    assert len({digest(row, other) for row in changed} | {whole}) == 4
