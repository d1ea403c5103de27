"""What files record reaches every stage as final text, and with an end of turn only where it came to its end."""

import json

import pytest

from moe_safety.batches.compose import compose
from moe_safety.config import load_config
from moe_safety.evaluate.evaluated_models import base_subject
from moe_safety.evaluate.plan import ANSWER_SHIFT, LOSSES, ROUTING, write_exam
from moe_safety.evaluate.robustness import FINETUNED, HELD_BACK, harmless_rows, robustness_items
from moe_safety.evaluate.session import Session
from moe_safety.generation import opening_of
from moe_safety.inputs.prepare import prepare
from moe_safety.jobs import Plan
from moe_safety.models.io import load_chat
from moe_safety.rundir import RunDir
from tests.lengths import Texts, write_model
from tests.templates import THINKS

THOUGHT = "<think>\nso no so\n</think>\n\n"


def turns(asked, said):
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Odd rows ran into a limit; all think aloud before they answer."""
    folder = tmp_path_factory.mktemp("recorded")
    texts = Texts(THINKS)
    write_model(folder / "model", texts)
    attacks = [
        {"goal": f"zorp {n}", "all_prompt": turns(f"proz {n}", "")[:1], "output": f"{THOUGHT}sure {n}"}
        | ({"finish_reason": "length"} if n % 2 else {})
        for n in range(16)
    ]
    (folder / "attacks.json").write_text(json.dumps(attacks))
    benign = [{"messages": turns(f"fep {n}", f"{THOUGHT}gladly {n}"), "ended": n % 2 == 0} for n in range(16)]
    (folder / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in benign))
    path = folder / "run.yaml"
    path.write_text(
        f"""
run_dir: {folder / "run"}
model: {{name: {folder / "model"}}}
data:
  attacks: [{{path: {folder / "attacks.json"}}}]
  benign: [{{path: {folder / "benign.jsonl"}}}]
  controls: {{from: benign, wrapper: flip-word-order}}
  test_fraction: 0.5
  validation_fraction: 0.0
batches: {{batch_size: 4, benign_per_batch: 2, control_per_batch: 2}}
evaluate:
  suites: [{{name: deep, kind: attack, source: {{path: {folder / "attacks.json"}}}, depths: [3]}}]
judges: {{harm: {{kind: demo}}}}
"""
    )
    config = load_config(path)
    prepare(config)
    return config


@pytest.fixture(scope="module")
def chat(config):
    return load_chat(config.model)


def spoken(chat, row, said):
    """The span of a text that stands in its row's file, whose number says whether it ended."""
    number = int(row["source"].rpartition(":")[2]) - 1
    text = f"{said} {number}"
    return text, chat.tokenizer(text).input_ids + ([] if number % 2 else [chat.end])


def test_batches_count_and_learn_no_thinking_and_no_end_that_was_not_said(config, chat):
    compose(config)
    run = RunDir(config.run_dir)
    known = {row["prompt_id"]: row for row in run.read_table("prompts.parquet").to_pylist()}
    rows = run.read_table("batches.parquet").to_pylist()
    assert {row["label"] for row in rows} == {"safe", "unsafe", "benign", "control"}
    for row in rows:
        if row["label"] == "unsafe":
            assert (row["answer"], row["answer_tokens"]) == spoken(chat, known[row["prompt_id"]], "sure")
        if row["label"] in ("benign", "control"):
            assert (row["target"], row["target_tokens"]) == spoken(chat, known[row["prompt_id"]], "gladly")
        assert row["target_prefix"] == chat.prefix


def test_references_are_weighed_and_read_without_thinking_and_as_far_as_they_came(config, chat):
    run = RunDir(config.run_dir)
    known = {row["prompt_id"]: row for row in run.read_table("prompts.parquet").to_pylist()}
    session, subject = Session(config, run), base_subject(config)
    exam = {row["prompt_id"]: row for row in session.exam.to_pylist() if row["suite"] is None}
    settings, encoded = config.evaluate, session._encoded(base_subject(config))
    opening = opening_of(config, settings, subject.model)
    plan = Plan(run, "plans/exam.parquet")
    write_exam(plan, encoded, opening, settings, seed=1, routing=True, tasks=[], identity="one")
    seen = set()
    for row in (row for item in range(len(plan)) for row in plan.rows(item).to_pylist()):
        if row["kind"] in (LOSSES, ROUTING, ANSWER_SHIFT) and row["answer"]:
            own = exam[row["prompt_id"]]
            text, span = spoken(chat, known[row["prompt_id"]], "sure" if own["label"] == "unsafe" else "gladly")
            assert (own["reference"], row["answer"]) == (text, span)
            assert own["reference_ended"] is (span[-1] == chat.end)
            seen.add((row["kind"], own["label"], own["reference_ended"]))
    both = [(kind, label) for kind, label, ended in seen if ended and (kind, label, False) in seen]
    assert sorted(both) == sorted(
        [
            *((LOSSES, "benign"), (ANSWER_SHIFT, "benign"), (ANSWER_SHIFT, "control")),
            *((ROUTING, label) for label in ("unsafe", "benign", "control")),
        ]
    )
    deep = [row for row in encoded if row["suite"] == "deep"]
    begin = [spoken(chat, {"source": "f:1"}, "sure")[1][0]]
    assert {tuple(row["opening_tokens"][:1]) for row in deep} == {tuple(begin)}, "a prefill of no thinking"


def test_margins_are_of_what_was_said_and_rows_to_learn_are_encoded_as_all_others(config, chat):
    run = RunDir(config.run_dir)
    session, subject = Session(config, run), base_subject(config)
    known = {row["prompt_id"]: row for row in run.read_table("prompts.parquet").to_pylist()}
    training = harmless_rows(run, chat, {})
    asked = config.evaluate.model_copy(update={"held_back": [1], "after_finetuning": 2})

    def items(longest):
        encoder = session._encoder(subject, chat)
        rows = session._encoded(subject)
        lengths = {"max_length": longest or encoder.max_length}
        own = type(encoder)(chat, **lengths, max_answer=encoder.max_answer)
        return list(robustness_items(rows, own, "no", asked, training))

    *held, learned = items(None)
    assert {item["kind"][0].as_py() for item in held} == {HELD_BACK}
    for trial in (row for item in held for row in item.to_pylist()[1::2]):
        goal = known[trial["prompt_id"]]["goal_id"]
        attack = next(row for row in known.values() if row["goal_id"] == goal and row["label"] == "unsafe")
        assert trial["answer"] == spoken(chat, attack, "sure")[1]
    assert learned["kind"][0].as_py() == FINETUNED
    examples = [row for row in learned.to_pylist() if row["prompt_id"] == "training"]
    assert [row["answer"] for row in examples] == [spoken(chat, row, "gladly")[1] for row in training]
    assert all(row["prefix"] == chat.prefix for row in examples)
    # One that is longer than a row may be is not learned.
    lengths = sorted(len(row["tokens"] + row["prefix"] + row["answer"]) for row in examples)
    fit = [row for row in items(max(lengths) - 1)[-1].to_pylist() if row["prompt_id"] == "training"]
    assert len(fit) == sum(length < max(lengths) for length in lengths) < len(examples)
