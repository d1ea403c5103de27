"""Suites: what they ask, what is told of them, and that nothing of them gets into the run's own figures."""

import json
from types import SimpleNamespace

import pyarrow as pa
import pytest

from moe_safety.config.load import parse_config
from moe_safety.errors import InputError
from moe_safety.evaluate.comparison import suites_table
from moe_safety.evaluate.gate import misses, parse_gate
from moe_safety.evaluate.prefills import go_on
from moe_safety.evaluate.printing import told_account
from moe_safety.evaluate.suites import is_own, suite_results, suite_rows
from moe_safety.generation import Answer
from moe_safety.generation.items import make_item
from moe_safety.judges import Counted, Performance
from tests.evaluate.rates import plain
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm

PLAIN = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a.json"}]}}


def config_of(*suites, **more):
    return parse_config(PLAIN | {"evaluate": {"suites": list(suites)}} | more, "c.yaml")


def suite(kind="attack", name="zorps", path="s.jsonl", **more):
    return {"name": name, "kind": kind, "source": {"path": path}} | more


@pytest.fixture
def write(tmp_path):
    def write(*rows, name="s.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write


def user(text):
    return {"role": "user", "content": text}


def attack(goal, text="fep it", opening=None, **more):
    turns = [{"role": "user", "content": text}]
    turns += [{"role": "assistant", "content": opening}] if opening else []
    return {"label": "unsafe", "goal": goal, "messages": turns} | more


def rows(config, elsewhere=()):
    found = suite_rows(config, config.evaluate.suites[0], set(elsewhere))
    return found.rows, found.left_out


@pytest.mark.parametrize(
    ("suites", "told"),
    [
        ([suite(), suite()], "evaluate: two suites have the same name"),
        ([suite(kind="zorp")], "evaluate.suites.0.kind: input should be"),
        ([suite(twin="other")], "evaluate: the twin of zorps, 'other', is no harmless suite"),
        ([suite(twin="b"), suite("attack", "b")], "'b', is no harmless suite"),
        ([suite("harmless", against="base")], "evaluate.suites.0: `against` is for suites of the kind attack"),
        ([suite("harmless", depths=[1])], "`depths` is for suites of harmful goals"),
        ([suite("harmless", harm={"kind": "demo"})], "`harm` is for suites of harmful goals"),
        ([suite(depths=[3, 3])], "a depth is named twice"),
        ([suite(against="selectiv-routing")], "there is no arm 'selectiv-routing', did you mean 'selective-routing'"),
        ([suite(harm={"kind": "rules"})], "suites.0.harm.kind: a judge of the kind 'rules' does not answer"),
        ([suite(harm={"kind": "demo"})], "judges.harm names none for the others"),
    ],
)
def test_what_does_not_fit_together_is_one_line(suites, told):
    with pytest.raises(InputError) as error:
        config_of(*suites)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_an_attack_suite_asks_its_attacks_alone_and_under_its_own_name(write):
    path = write(
        attack("a", "fep a"), attack("b", "fep b"), {"label": "safe", "messages": [{"role": "user", "content": "a"}]}
    )
    found, left_out = rows(config_of(suite(path=path), data=PLAIN["data"] | {"max_samples": 1}))
    assert [(row["goal"], row["label"], row["suite"], row["attack"]) for row in found] == [
        ("a", "unsafe", "zorps", "zorps"),
        ("b", "unsafe", "zorps", "zorps"),
    ]
    assert all(row["prompt_id"].startswith("zorps:") for row in found), "the same prompt may stand in several"
    assert left_out == 0
    _, left_out = rows(config_of(suite(path=path)), [found[0]["goal_id"]])
    assert left_out == 1
    few = config_of(suite(path=path))
    few = few.model_copy(update={"evaluate": few.evaluate.model_copy(update={"prompts": 1})})
    asked, left_out = rows(few)
    assert (len(asked), left_out) == (1, 0), "what is asked of a sample alone stands in no other split"
    with pytest.raises(InputError, match="every goal of it stands in another split"):
        rows(config_of(suite(path=path)), [row["goal_id"] for row in found])


@pytest.mark.parametrize(
    ("kind", "label"), [("harmful", "safe"), ("harmless", "benign"), ("harmless_in_wrapper", "control")]
)
def test_other_kinds_are_other_kinds_of_prompt(write, kind, label):
    source = {"wrapper": "flip-word-order"} if kind == "harmless_in_wrapper" else {}
    one = suite(kind, path=write({"goal": "fep the quib"}))
    one["source"] |= source
    (row,), _ = rows(config_of(one))
    assert (row["label"], row["goal"], row["opening"]) == (label, "fep the quib", None)


def test_a_conversation_that_ends_in_an_opening_is_a_prefill(write):
    path = write(attack("a", opening="Sure, first"), attack("b"))
    begun, plain_row = rows(config_of(suite(path=path)))[0]
    assert (begun["opening"], [turn["role"] for turn in begun["messages"]]) == ("Sure, first", ["user"])
    assert plain_row["opening"] is None


def test_depths_are_of_the_recorded_answer(write):
    path = write(attack("a", answer="Sure, take the zorp"))
    found, _ = rows(config_of(suite(path=path, depths=[1, 3])))
    assert [(row["opening"], row["depth"]) for row in found] == [("Sure, take the zorp", 1), ("Sure, take the zorp", 3)]
    assert len({row["prompt_id"] for row in found}) == 2
    path = write(attack("a", answer="x"), attack("b", "fep b"))
    with pytest.raises(InputError, match=r"s\.jsonl, row 2: records no answer"):
        rows(config_of(suite(path=path, depths=[1])))


class Engine:
    """Says the prompt's length, twice, after one token of thinking."""

    chat = SimpleNamespace(
        text=lambda tokens: " ".join(map(str, tokens)), thinking=lambda tokens: str(tokens) if tokens else None
    )

    def answer(self, prompts, temperatures, seeds):
        return [Answer(prefix=[7], tokens=[len(prompt)] * 2, ended=True) for prompt in prompts]


def test_the_answer_goes_on_from_its_opening_which_is_a_part_of_it():
    row = {"prompt_id": "p", "tokens": [1, 2, 3], "prefix": [4], "answer": [5, 6], "temperature": 0.0, "seed": 0}
    (said,) = go_on(Engine(), make_item("prefills", [row])).to_pylist()
    assert said["answer_tokens"] == [5, 6, 7, 6, 6]
    assert (said["answer"], said["thinking"], said["answer_prefix"]) == ("5 6 7 6 6", None, [])


def responses(*rows):
    names = ("suite", "goal_id", "label", "verdict", "harm", "depth")
    whole = [dict(zip(names, row, strict=True)) for row in rows]
    known = {"reattack": False, "sample": 0, "attack": None}
    table = [row | known | {"prompt_id": f"p{place}"} for place, row in enumerate(whole)]
    return pa.Table.from_pylist(table)


TABLE = responses(
    (None, "g0", "unsafe", "refused", "harmless", None),
    (None, "g0", "benign", "complied", None, None),
    ("zorps", "g1", "unsafe", "complied", "harmful", 1),
    ("zorps", "g1", "unsafe", "complied", "harmless", 3),
    ("zorps", "g2", "unsafe", "refused", "unparsed", 1),
    ("kind", "g3", "benign", "refused", None, None),
    ("kind", "g4", "benign", "complied", None, None),
)

NOT_ASKED, ALL_ASKED = {"left_out": 4, "dropped": {"no prompt": 2}}, {"left_out": 0, "dropped": {}}


def test_rows_that_a_reader_skips_or_merges_are_counted_by_reason(write):
    path = write(attack("a", "fep a"), attack("a", "fep a"), {"label": "safe", "messages": [user("b")]})
    config = config_of(suite(path=path))
    assert suite_rows(config, config.evaluate.suites[0], set()).dropped == {
        "the same conversation as another row's": 1,
        "a plain goal, and no attack on it": 1,
    }
    jailbreaks = [{"index": 0, "goal": "a", "prompt": "fep a", "jailbroken": True}]
    jailbreaks.append({"index": 1, "goal": "b", "prompt": None, "jailbroken": False})
    config = config_of(suite(path=write({"parameters": {}, "jailbreaks": jailbreaks}, name="artifact.json")))
    assert suite_rows(config, config.evaluate.suites[0], set()).account() == {
        "left_out": 0,
        "dropped": {"no prompt": 1},
    }
    told = {"left_out": 2, "dropped": {"no prompt": 1}}
    assert told_account(told) == "1 no prompt, 2 whose goals stand in another split"
    assert told_account(ALL_ASKED) == ""


def test_each_suite_has_its_own_figures_and_the_runs_own_have_none_of_it():
    assert TABLE.filter(is_own(TABLE))["goal_id"].to_pylist() == ["g0", "g0"]
    config = config_of(
        suite(depths=[1, 3], twin="kind", against="selective-routing"),
        suite("harmless", "kind"),
        judges={"harm": {"kind": "demo"}},
    )
    judge = Performance({"harmful": {"harmful": 9, "harmless": 1}, "harmless": {"harmless": 10}})
    found = suite_results(config.evaluate.suites, TABLE, {"harm": judge}, {"zorps": NOT_ASKED, "kind": ALL_ASKED})
    zorps = found["zorps"]
    assert list(zorps["rates"]) == ["asr", "answered", "unparsed", "unparsed_harm"]
    assert (zorps["rates"]["asr"]["value"], zorps["rates"]["asr"]["with_unparsed"]["value"]) == (1 / 3, 2 / 3)
    assert zorps["rates"]["answered"]["value"] == 2 / 3
    assert zorps["dropped"] == {"no prompt": 2}
    assert (zorps["left_out"], zorps["against"], zorps["twin"]) == (4, "selective-routing", "kind")
    assert {depth: rates["asr"]["n"] for depth, rates in zorps["by_depth"].items()} == {"1": 2, "3": 1}
    assert judge.of("harmful", with_unparsed=True) == (Counted(9, 10), Counted(10, 10))
    assert zorps["corrected"].keys() == {"asr"}
    assert found["kind"]["rates"]["over_refusal"]["value"] == 0.5
    assert list(found["kind"]["rates"]) == ["over_refusal", "unparsed"]
    assert "corrected" not in found["kind"]
    check_comparison([arm("base", answered=plain(1, 2).to_dict(), suites=found)])


def test_a_calibration_of_the_runs_judge_corrects_no_suite_with_another():
    own = suite(harm={"kind": "keywords", "harmful": ["zorp"], "harmless": ["sorry"]})
    config = config_of(own, judges={"harm": {"kind": "demo"}})
    judge = Performance({"harmful": {"harmful": 9}, "harmless": {"harmless": 10}})
    assert (
        "corrected" not in suite_results(config.evaluate.suites, TABLE, {"harm": judge}, {"zorps": ALL_ASKED})["zorps"]
    )


def test_suites_stand_in_the_comparison_and_under_a_gate():
    rates = {"asr": plain(1, 10, 2).to_dict(), "answered": plain(4, 10).to_dict()}
    zorps = {"kind": "attack", "main": "asr", "left_out": 3, "rates": rates, "twin": "kind", "against": "random"}
    kind = {"kind": "harmless", "main": "over_refusal", "left_out": 0, "rates": {"over_refusal": plain(0, 5).to_dict()}}
    one = arm("random", answered=plain(4, 10).to_dict(), suites={"zorps": zorps, "kind": kind})
    lines = [" ".join(line.split()) for line in suites_table([one]).splitlines()]
    assert lines[2].startswith("| zorps | random | attack success, made against random | 0.100 [")
    assert "+2? | attacks answered 0.400" in lines[2]
    assert "; kind 0.000 [" in lines[2]
    assert lines[2].endswith("| 10 | 10 | 3 |")
    assert lines[3].startswith("| kind | random | over-refusal | 0.000")
    assert misses(parse_gate("zorps.asr<=0.2,kind.over_refusal<=0"), [one]) == [
        "random misses zorps.asr<=0.2: 0.1, or 0.3 with its 2 unparsed answers counted"
    ]
    assert misses(parse_gate("fep.asr<=1"), [one]) == ["random misses fep.asr<=1: it has no value"]
