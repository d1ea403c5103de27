"""What the tools of the field write, with invented content: whole files, several turns, openings, and bad rows."""

import json
from pathlib import Path

import pytest

from moe_safety.config import DataConfig, Source
from moe_safety.errors import InputError
from moe_safety.inputs.sources import digests, read_source

GOAL, WRAPPED, SAID = "blick the zorp", "As a fep, blick the zorp.", "The zorp is blicked."


@pytest.fixture
def read(write):
    def read(content, name="a.json", role="attacks", prefills=False, only_successful=False, **source):
        data = DataConfig(attacks=[Source(path="x")], only_successful=only_successful)
        return read_source(Source(path=write(name, content), **source), role, data, prefills=prefills)

    return read


def rows_of(found):
    return [(row.goal, [turn["content"] for turn in row.messages], row.answer, row.attack) for row in found.rows]


def user(text=WRAPPED):
    return {"role": "user", "content": text}


def jailbreak(**changes):
    row = {"index": 0, "goal": GOAL, "behavior": "Zorps", "category": "zorps", "prompt": WRAPPED, "response": SAID}
    return row | {"number_of_queries": 3, "jailbroken": True} | changes


def artifact(*rows):
    return {
        "parameters": {"model": "fep-1", "method": "PAIR", "attack_type": "black_box"},
        "jailbreaks": [row | {"index": place} if isinstance(row, dict) else row for place, row in enumerate(rows)],
    }


def test_an_artifact_of_jailbreakbench(read):
    content = artifact(
        jailbreak(), jailbreak(prompt=None, response=None, jailbroken=False), jailbreak(jailbroken=False)
    )
    for text in (json.dumps(content), json.dumps(content, indent=2)):
        found = read(text)
        assert (found.format.name, found.read, found.dropped) == ("jailbreakbench", 3, {"no prompt": 1})
        assert rows_of(found) == [(GOAL, [WRAPPED], SAID, "PAIR")] * 2
        assert {row.category for row in found.rows} == {"zorps"}
    assert read(json.dumps(content), only_successful=True).dropped == {"no prompt": 1, "not successful": 1}
    harmless = read(json.dumps(content), role="controls", only_successful=True)
    assert harmless.dropped == {"no prompt": 1}, "of harmless requests none has to succeed"
    assert rows_of(read(json.dumps(content), attack="mine"))[0][3] == "mine"


BEHAVIORS = f"Behavior,SemanticCategory,BehaviorID\n{GOAL},zorps,blick_zorp\nfep the quib,quibs,fep_quib\n"


def test_test_cases_and_completions_of_harmbench(read, write):
    goals = write("behaviors.csv", BEHAVIORS)
    cases = {"blick_zorp": [WRAPPED, "Zorp?"], "fep_quib": ["Quib!", ["image.png", "Quib!"]]}
    found = read(json.dumps(cases, indent=1), goals=goals)
    assert (found.format.name, found.dropped) == ("harmbench", {"not a text": 1})
    assert rows_of(found) == [
        (GOAL, [WRAPPED], None, "harmbench"),
        (GOAL, ["Zorp?"], None, "harmbench"),
        ("fep the quib", ["Quib!"], None, "harmbench"),
    ]
    assert next(iter(found.rows)).category == "zorps"
    done = read(json.dumps({"blick_zorp": [{"test_case": WRAPPED, "generation": SAID}]}), goals=goals)
    assert rows_of(done) == [(GOAL, [WRAPPED], SAID, "harmbench")]
    judged = [{"test_case": text, "generation": SAID, "label": label} for text, label in ((WRAPPED, 1), ("Zorp?", 0))]
    found = read(json.dumps({"blick_zorp": judged}), goals=goals, only_successful=True)
    assert (rows_of(found), found.dropped) == ([(GOAL, [WRAPPED], SAID, "harmbench")], {"not successful": 1})
    assert read(json.dumps(cases), goals=goals, only_successful=True).notes == [
        "no label in any row, so every attack is kept"
    ]
    source = Source(path=write("c.json", cases), goals=goals)
    assert digests([source]).keys() == {source.path, goals}, "other goals are another input"
    with pytest.raises(InputError, match="row 1: no table of behaviours is given; name it as `goals`"):
        read(json.dumps(cases))
    with pytest.raises(InputError, match="row 1: its behaviour is not in `goals`") as error:
        read(json.dumps({"other": ["x"]}), goals=goals)
    assert "other" not in str(error.value), "no word of a request is printed"


def run_of(*steps, original=None):
    target = {"role": "assistant", "content": "Sure, the zorp"}
    return {"original_prompt": original or [user(GOAL), target], "steps": list(steps), "total_time": 1.0}


def step(text, number=0, opening=None, harm=None, loss=None):
    turns = [user(text)] + ([] if opening is None else [{"role": "assistant", "content": opening}])
    scores = {} if harm is None else {"zorp_judge": {"p_harmful": [harm]}}
    return {"step": number, "model_input": turns, "model_completions": [SAID], "scores": scores, "loss": loss}


def test_a_run_file_of_adversariallm(read):
    runs = [
        run_of(step("mild", harm=0.1), step(WRAPPED, 1, harm=0.9), step("late", 2, harm=0.2)),
        run_of(step("high", loss=2.0), step("low", 1, loss=0.5), step("middle", 2, loss=1.0)),
        run_of(step("first"), step("last", 1)),
        run_of({"step": 0, "model_input": None, "model_completions": [SAID]}),
        run_of(step("begin", opening="Sure, first")),
    ]
    content = json.dumps({"config": {"attack": "pair", "model": "fep"}, "runs": runs})
    found = read(content)
    assert found.format.name == "adversariallm"
    assert rows_of(found) == [(GOAL, [text], SAID, "pair") for text in (WRAPPED, "low", "last")]
    assert found.dropped == {"no step with an input in words": 1, "a prefill, which only suites take": 1}
    with_openings = read(content, prefills=True)
    assert rows_of(with_openings)[-1][1] == ["begin", "Sure, first"], "a suite takes it with its opening"


def test_only_successful_attacks_are_kept_where_the_file_knows(read):
    judged = [run_of(step(WRAPPED, harm=0.9)), run_of(step("mild", harm=0.4)), run_of(step("unknown"))]
    found = read(json.dumps({"runs": judged}), only_successful=True)
    assert ([row[1] for row in rows_of(found)], found.dropped) == ([[WRAPPED]], {"not successful": 2})
    hit, miss = ({"zorps.Said": scores, "zorps.Other": [0.0, None]} for scores in ([0.1, 0.5], [0.4, None]))
    outputs = [{"text": "No."}, {"text": SAID}]
    report = [attempt(outputs=outputs, detector_results=hit), attempt(uuid="u2", detector_results=miss)]
    found = read(report, "a.jsonl", only_successful=True)
    assert rows_of(found) == [(GOAL, [WRAPPED], SAID, "zorps.Fep")], "the answer is the output that was hit"
    assert found.dropped == {"not successful": 1}
    strict = [{"entry_type": "start_run setup", "run.eval_threshold": 0.6}, *report]
    assert not read(strict, "b.jsonl", only_successful=True).rows
    score = {"score_type": "true_false", "score_value": "True", "objective": GOAL}
    refusal = score | {"scorer_class_identifier": {"__type__": "SelfAskRefusalScorer"}}
    export = [piece("user", WRAPPED), piece("assistant", SAID, 1, scores=[score])]
    export += [piece("user", WRAPPED, 0, "c2"), piece("assistant", "no", 1, "c2", scores=[refusal])]
    export += [piece("user", "x", 0, "c3", outcome="success", objective=GOAL), piece("user", "y", 0, "c4")]
    found = read(export, only_successful=True)
    assert ([row[1] for row in rows_of(found)], found.dropped) == ([[WRAPPED], ["x"]], {"not successful": 2})
    for content in ({"runs": [run_of(step("x"))]}, [attempt()], [piece("user", WRAPPED, original=GOAL)]):
        found = read(json.dumps(content), only_successful=True)
        assert len(found.rows) == 1
        assert found.notes == ["no row says whether its attack succeeded, so every attack is kept"]
        assert len(read(json.dumps(content), only_successful=False).notes) == 0


@pytest.mark.parametrize(
    ("name", "successful", "every"),
    [
        ("garak.report.jsonl", ["blick the zorp", "blick the quib"], 4),
        ("garak.hitlog.jsonl", ["blick the zorp", "blick the quib"], 2),
        ("jailbreakbench.json", ["blick the zorp"], 2),
        ("pyrit.json", ["blick the zorp"], 2),
    ],
)
def test_files_that_the_tools_own_classes_wrote(name, successful, every):
    """garak 0.17.1 (Attempt, ThresholdEvaluator), jailbreakbench 1.0.0 (AttackArtifact), pyrit 1.1.0 (MessagePiece,
    with the objective and outcome of its AttackResult beside each piece)."""
    path = Path(__file__).parent / "written" / name
    data = DataConfig(attacks=[Source(path=str(path))])
    whole = data.model_copy(update={"only_successful": False})
    assert len(read_source(data.attacks[0], "attacks", whole).rows) == every
    found = read_source(data.attacks[0], "attacks", data)
    assert (found.format.name, [row.goal for row in found.rows]) == (name.split(".")[0], successful)
    assert next(iter(found.rows)).answer == SAID


def test_a_turn_in_which_nothing_is_said_is_no_prefill(read):
    content = json.dumps({"runs": [run_of(step(WRAPPED, opening=""))]})
    for prefills in (False, True):
        assert rows_of(read(content, prefills=prefills)) == [(GOAL, [WRAPPED], SAID, "adversariallm")]


def test_of_several_completions_the_most_harmful_is_the_recorded_answer(read):
    one = step(WRAPPED) | {"model_completions": ["No.", SAID, "Maybe."]}
    one["scores"] = {"a": {"p_harmful": [0.1, 0.2, 0.3]}, "b": {"p_harmful": [0.0, 0.9, None]}}
    assert rows_of(read(json.dumps({"runs": [run_of(one)]})))[0][2] == SAID


def attempt(**changes):
    prompt = {"turns": [{"role": "user", "content": {"text": WRAPPED, "lang": "en"}}], "notes": {}}
    row = {"entry_type": "attempt", "uuid": "u1", "seq": 0, "status": 2, "probe_classname": "zorps.Fep", "goal": GOAL}
    return row | {"prompt": prompt, "outputs": [{"text": SAID}, None], "notes": {}, "detector_results": {}} | changes


def test_a_report_and_a_hit_log_of_garak(read):
    turns = [("system", "be a fep"), ("user", "hello"), ("assistant", "hi"), ("user", WRAPPED)]
    several = {"turns": [{"role": role, "content": {"text": text}} for role, text in turns]}
    report = [
        {"entry_type": "start_run setup", "_config.DEFAULT_CLASS": "zorp"},
        attempt(status=1, outputs=[]),
        attempt(),
        attempt(uuid="u2", prompt=several, outputs=[]),
        {"entry_type": "eval", "probe": "zorps.Fep", "passed": 1},
    ]
    found = read(report, "a.jsonl")
    assert found.format.name == "garak"
    assert rows_of(found) == [
        (GOAL, [WRAPPED], SAID, "zorps.Fep"),
        (GOAL, ["be a fep", "hello", "hi", WRAPPED], None, "zorps.Fep"),
    ]
    assert found.dropped["an attempt that was not complete"] == 1
    hit = {"goal": GOAL, "prompt": WRAPPED, "output": SAID, "score": 1.0, "run_id": "r", "attempt_id": "a"}
    assert rows_of(read([hit | {"probe": "zorps.Fep", "detector": "d"}], "b.jsonl")) == [
        (GOAL, [WRAPPED], SAID, "zorps.Fep")
    ]


def piece(role, text, sequence=0, conversation="c1", original=None, **more):
    row = {"id": f"{conversation}{sequence}", "role": role, "conversation_id": conversation, "sequence": sequence}
    kinds = {"original_value_data_type": "text", "converted_value_data_type": "text", "scores": []}
    return row | {"original_value": original or text, "converted_value": text} | kinds | more


def test_an_export_of_pyrit(read):
    score = [{"score_value": "true", "objective": "fep the quib"}]
    export = [
        piece("assistant", SAID, 1),
        piece("user", WRAPPED, 0, original=GOAL),
        piece("user", "hello", 0, "c2"),
        piece("assistant", "hi", 1, "c2", scores=score),
        piece("user", "and now?", 2, "c2"),
        piece("user", "zorp.png", 0, "c3", converted_value_data_type="image_path"),
    ]
    found = read(export)
    assert (found.format.name, found.dropped) == ("pyrit", {"not a text": 1})
    assert rows_of(found) == [
        (GOAL, [WRAPPED], SAID, "pyrit"),
        ("fep the quib", ["hello", "hi", "and now?"], None, "pyrit"),
    ]
    blocked = piece("assistant", "{}", 1, converted_value_data_type="error", response_error="blocked")
    assert rows_of(read([piece("user", WRAPPED, original=GOAL), blocked])) == [(GOAL, [WRAPPED], None, "pyrit")]
    with pytest.raises(InputError, match="row 1: its conversation names no objective"):
        read([piece("user", WRAPPED)])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (artifact(jailbreak(), jailbreak(goal=None)), "row 2: a row without a goal"),
        (artifact(jailbreak(), "zorp"), "row 2: is not an object but a str"),
        (artifact(), "has no rows"),
        ({"runs": [{"original_prompt": [user(GOAL)], "steps": "x"}]}, "row 1: steps is no list"),
        ({"runs": [run_of(original=[{"role": "fep", "content": "x"}])]}, "row 1: original_prompt has the unknown role"),
        ([attempt(prompt={"turns": [{"role": "user", "content": {"text": None}}]})], "row 1: prompt has a message"),
        ([attempt(goal=None)], "row 1: a row without a goal"),
        ([piece("fep", WRAPPED, original=GOAL)], "row 1: role is 'fep'; here it can be"),
        ({"zorp": 1}, "is not a list of objects but a single one"),
    ],
)
def test_bad_rows_are_told_with_file_and_row(read, content, told):
    with pytest.raises(InputError) as error:
        read(json.dumps(content))
    assert told in str(error.value)
    assert "a.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [artifact(jailbreak()), {"runs": [run_of(step("x"))]}, [attempt()]])
def test_results_of_attacks_are_no_harmless_requests(read, content):
    with pytest.raises(InputError, match="attack results are no benign prompts"):
        read(json.dumps(content), role="benign")
    assert {row.label for row in read(json.dumps(content), role="controls").rows} == {"control"}


def test_a_conversation_that_ends_in_an_opening_is_a_prefill_for_suites_alone(read):
    row = {"label": "unsafe", "goal": GOAL, "messages": [user(), {"role": "assistant", "content": "Sure, first"}]}
    assert rows_of(read([row])) == [(GOAL, [WRAPPED], "Sure, first", "messages")], "elsewhere it is the answer"
    assert rows_of(read([row | {"answer": SAID}], prefills=True)) == [
        (GOAL, [WRAPPED, "Sure, first"], SAID, "messages")
    ]
