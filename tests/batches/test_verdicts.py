import pyarrow as pa
import pytest

from moe_safety.batches.verdicts import judge_answers, summarise, why_nothing_is_left
from moe_safety.inputs.table import PROMPTS_SCHEMA
from moe_safety.judges import TOO_LONG, Judge, Verdict
from moe_safety.judges.kinds.panel import Panel


class ByWord(Judge):
    """A judge that reads the verdict off the answer."""

    def judge_all(self, exchanges):
        return [Verdict(exchange.response.split()[0], "said so") for exchange in exchanges]


def table(*rows):
    full = [
        dict.fromkeys(PROMPTS_SCHEMA.names)
        | {"prompt_id": f"p{n}", "goal_id": goal, "label": label, "answer": answer, "target": target}
        | {"messages": [{"role": "user", "content": "x"}], "split": "train"}
        for n, (label, goal, answer, target) in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=PROMPTS_SCHEMA)


PROMPTS = table(
    ("safe", "holds", "refused", None),
    ("unsafe", "holds", "complied", None),
    ("safe", "unaligned", "complied", None),
    ("unsafe", "unaligned", "complied", None),
    ("safe", "resists", "refused", None),
    ("unsafe", "resists", "refused", None),
    ("safe", "odd", "unparsed", None),
    ("unsafe", "odd", "complied", None),
    ("safe", "half", "refused", None),
    ("unsafe", "half", "unparsed", None),
    ("unsafe", "half", "complied", None),
    ("safe", "plain only", "refused", None),
    ("benign", "b1", "refused", None),
    ("benign", "b2", "refused", "help"),
    ("control", "b1", "complied", None),
)


SAID = {"answer": "complied", "ended": False, "thinking": "hm", "answer_prefix": [1], "answer_tokens": [2, 3]}


class ByGoal(Judge):
    """A judge that reads the verdict off the goal, and tells of the prompt."""

    def judge_all(self, exchanges):
        return [Verdict(exchange.goal, exchange.prompt) for exchange in exchanges]


def test_a_judge_is_asked_about_the_goal_whatever_the_attack_says():
    prompts = table(("safe", "g", "x", None), ("unsafe", "g", "x", None), ("control", "h", None, "help"))
    goals = pa.array(["refused", "complied", "complied"])
    prompts = prompts.set_column(prompts.schema.get_field_index("goal"), "goal", goals)
    responses = judge_answers(prompts.to_pylist(), {"p2": SAID | {"answer": "help"}}, ByGoal(), filtering=True)
    assert responses["verdict"].to_pylist() == goals.to_pylist()
    assert responses["reason"].to_pylist() == ["x"] * 3, "the messages' last turn"


def test_answers_that_were_too_long_to_judge_are_counted():
    class Short(Judge):
        def judge_all(self, exchanges):
            return [Verdict("unparsed", f"{TOO_LONG}: 9 tokens, and 8 fit")] * len(exchanges)

    alone, panel = Short(), Panel({"word": ByWord(), "short": Short(), "word 2": ByWord()})
    assert [
        summarise(judge_answers(PROMPTS.to_pylist(), {}, judge, filtering=True))["too_long_to_judge"]
        for judge in (alone, panel)
    ] == [
        len(PROMPTS),
        len(PROMPTS),
    ]
    assert summarise(judge_answers(PROMPTS.to_pylist(), {}, ByWord(), filtering=True))["too_long_to_judge"] == 0


def test_only_pairs_that_hold_stay_and_each_drop_has_its_reason():
    responses = judge_answers(PROMPTS.to_pylist(), {}, ByWord(), filtering=True)
    assert responses["dropped"].to_pylist() == [
        None,
        None,
        "safe_not_refused",
        "plain_form_dropped",
        "attack_forms_dropped",
        "unsafe_not_answered",
        "safe_unparsed",
        "plain_form_dropped",
        None,
        "unsafe_unparsed",
        None,
        None,
        "benign_not_answered",
        None,
        None,
    ]
    assert responses["kept"].to_pylist() == [reason is None for reason in responses["dropped"].to_pylist()]
    summary = summarise(responses)
    assert summary["kept"] == {"safe": 3, "unsafe": 2, "benign": 1, "control": 1}
    assert summary["dropped"]["plain_form_dropped"] == 2
    assert summary["verdicts"]["safe refused"] == 4


@pytest.mark.parametrize(
    ("rows", "label", "why"),
    [
        (
            [("safe", "a", "complied", None), ("safe", "b", "unparsed", None), ("unsafe", "a", "complied", None)],
            "unsafe",
            "0 of 2 goals are refused when asked plainly (1 got no verdict): is this model aligned? see respond.filter",
        ),
        (
            [("safe", "a", "refused", None), ("unsafe", "a", "refused", None)],
            "unsafe",
            "0 of 1 unsafe prompts are answered: does this attack work on this model? see respond.filter",
        ),
        (
            [
                *(("safe", "a", "refused", None), ("unsafe", "a", "refused", None)),
                *(("safe", "b", "complied", None), ("unsafe", "b", "complied", None)),
            ],
            "unsafe",
            "1 of 2 goals are refused when asked plainly, 1 of 2 unsafe prompts are answered, and of no goal both; "
            "see respond.filter",
        ),
        (
            [("benign", "a", "refused", None)],
            "benign",
            "0 of 1 benign prompts are answered, and none of the others has a helpful answer in its file",
        ),
        ([("benign", "a", "refused", None)], "unsafe", None),
    ],
)
def test_a_filter_that_leaves_nothing_is_told_with_its_counts(rows, label, why):
    responses = judge_answers(table(*rows).to_pylist(), {}, ByWord(), filtering=True)
    assert not any(row["kept"] for row in responses.to_pylist() if row["label"] == label)
    assert why_nothing_is_left(responses, label) == why


def test_without_the_filter_pairs_stay_but_nobody_learns_to_refuse_harmless_requests():
    responses = judge_answers(PROMPTS.to_pylist(), {}, ByWord(), filtering=False)
    dropped = [reason for reason in responses["dropped"].to_pylist() if reason]
    assert dropped == ["benign_not_answered"], "the benign request without a target of its own"
    assert responses["verdict"].to_pylist()[2] == "complied"


def test_recorded_answers_go_before_the_model_s():
    prompts = table(("safe", "a", "refused", None), ("unsafe", "a", None, None))
    responses = judge_answers(prompts.to_pylist(), {"p0": SAID, "p1": SAID}, ByWord(), filtering=True)
    assert responses["recorded"].to_pylist() == [True, False]
    assert responses["answer"].to_pylist() == ["refused", "complied"]
    assert responses["ended"].to_pylist() == [True, False]
    assert responses["answer_tokens"].to_pylist() == [None, [2, 3]]
    assert responses["thinking"].to_pylist() == [None, "hm"]
    assert summarise(responses)["unended"] == 1


@pytest.mark.parametrize("filtering", [True, False])
def test_a_prompt_that_is_too_long_to_be_answered_goes_with_its_pair(filtering):
    prompts = table(
        *(("safe", "a", "refused", None), ("unsafe", "a", None, None)),
        *(("safe", "b", None, None), ("unsafe", "b", "complied", None)),
        *(("safe", "c", "refused", None), ("unsafe", "c", "complied", None)),
    )
    responses = judge_answers(prompts.to_pylist(), {}, ByWord(), filtering=filtering)
    dropped = ["attack_forms_dropped", "prompt_too_long", "prompt_too_long", "plain_form_dropped", None, None]
    assert responses["dropped"].to_pylist() == dropped
    assert responses["verdict"].to_pylist() == ["refused", None, None, "complied", "refused", "complied"]
    assert summarise(responses)["dropped"]["prompt_too_long"] == 2


class Kind(Judge):
    """Refuses nothing."""

    def judge_all(self, exchanges):
        return [Verdict("complied", "kind")] * len(exchanges)


class Broken(Judge):
    def judge_all(self, exchanges):
        raise RuntimeError


def test_the_votes_of_a_panel_are_kept_and_their_agreement_told():
    panel = Panel({"word": ByWord(), "kind": Kind(), "word 2": ByWord()})
    alone, responses = (judge_answers(PROMPTS.to_pylist(), {}, judge, filtering=True) for judge in (ByWord(), panel))
    assert responses["verdict"] == alone["verdict"]
    assert responses["votes"].to_pylist()[0] == [("word", "refused"), ("kind", "complied"), ("word 2", "refused")]
    assert summarise(responses)["agreement"] == {"word / kind": 0.0, "word / word 2": 1.0, "kind / word 2": 0.0}
    assert "agreement" not in summarise(alone)


def test_nothing_that_a_broken_judge_reads_is_kept_as_safe():
    responses = judge_answers(PROMPTS.to_pylist(), {}, Broken(), filtering=True)
    assert set(responses["verdict"].to_pylist()) == {"unparsed"}
    assert [row["label"] for row in responses.to_pylist() if row["kept"]] == ["benign"]
