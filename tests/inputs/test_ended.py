"""Whether a recorded answer came to its end, as files of every format say it."""

import pytest

from moe_safety.errors import InputError


def ended(prepared, label):
    return [row["answer_ended"] for row in prepared.table.to_pylist() if row["label"] == label]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, True),
        ({"ended": False}, False),
        ({"ended": True, "finish_reason": "length"}, True),
        ({"finish_reason": "stop"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "MAX_TOKENS"}, False),
        ({"finish_reason": None, "ended": None}, True),
    ],
)
def test_a_file_may_say_so(write, prepare, flip_row, told, expected):
    attacks = write("attacks.json", [flip_row("grumble the zorps", **told)])
    rows = [{"messages": [*({"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "ho")))], **told}]
    prepared = prepare(attacks, benign=[write("benign.jsonl", rows)])
    assert ended(prepared, "unsafe") == ended(prepared, "benign") == [expected]
    assert ended(prepared, "safe") == [None], "nothing is recorded"


@pytest.mark.parametrize("cut", [{"ended": False}, {"finish_reason": "length"}, {}])
def test_a_target_has_ended_where_the_words_that_it_is_had(write, prepare, flip_row, cut):
    """An answer that ran into a limit is a target that did, in its plain form and in a wrapper. Other words ended."""
    asked = [{"role": "user", "content": "hi"}]
    rows = [
        {"messages": [*asked, {"role": "assistant", "content": "ho"}], **cut},
        {"messages": [{"role": "user", "content": "hey"}], "answer": "ho", "target": "well, ho", **cut},
        {"messages": [{"role": "user", "content": "hello"}], "target": "ho", **cut},
    ]
    benign, expected = write("benign.jsonl", rows), [not cut, True, not cut]
    controls = {"from": "benign", "wrapper": "flip-word-order"}
    prepared = prepare(write("attacks.json", [flip_row("grumble the zorps")]), benign=[benign], controls=controls)
    for label in ("benign", "control"):
        found = [row["target_ended"] for row in prepared.table.to_pylist() if row["label"] == label]
        assert found == expected, label


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("fine,,false", False),
        ("fine,,", True),
        (",well,false", False),
        ("fine,well,false", True),
    ],
)
def test_so_has_that_of_a_plain_request_in_a_wrapper(write, prepare, flip_row, row, expected):
    plain = write("plain.csv", f"prompt,answer,target,ended\nhow are you,{row}\n")
    attacks = write("attacks.json", [flip_row("grumble the zorps")])
    prepared = prepare(attacks, controls=[{"path": plain, "wrapper": "flip-word-order"}])
    (found,) = [row for row in prepared.table.to_pylist() if row["label"] == "control"]
    assert (found["target_ended"], found["answer_ended"]) == (expected, None)


@pytest.mark.parametrize(("cell", "expected"), [("true", True), ("False", False), ("0", False), ("", True)])
def test_in_a_csv_it_is_a_word(write, prepare, flip_row, cell, expected):
    plain = write("plain.csv", f"prompt,answer,ended\nhow are you,fine,{cell}\n")
    prepared = prepare(write("attacks.json", [flip_row("grumble the zorps")]), benign=[plain])
    assert ended(prepared, "benign") == [expected]


def test_another_word_is_an_error_with_its_row(write, prepare, flip_row):
    rows = [flip_row("grumble the zorps"), flip_row("flatten the zorps", ended="perhaps")]
    with pytest.raises(InputError, match=r"attacks\.json, row 2: ended is 'perhaps', not true or false"):
        prepare(write("attacks.json", rows))
