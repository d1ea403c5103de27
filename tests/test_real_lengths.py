"""Prompts and answers as long as real ones reach every stage whole, in the form that their template gives them."""

from statistics import median

import pytest

from moe_safety.batches.compose import compose
from moe_safety.config import load_config
from moe_safety.evaluate.plan import ANSWER_SHIFT, LOSSES, ROUTING
from moe_safety.generation.items import ANSWERS
from moe_safety.inputs.stage import prepare
from moe_safety.jobs import Plan
from moe_safety.models.io import load_chat
from moe_safety.pipeline import run_all
from moe_safety.routing.plan import write_plan
from moe_safety.rundir import RunDir
from moe_safety.train.data import BatchData
from tests.lengths import Texts, write_files, write_model
from tests.templates import CHANNELS, NO_SYSTEM, THINKS

MAX_ANSWER = 128


def configured(folder, template, *flags):
    texts = Texts(template)
    write_model(folder / "model", texts)
    write_files(folder, texts)
    path = folder / "run.yaml"
    path.write_text(
        f"""
run_dir: {folder / "run"}
model: {{name: {folder / "model"}}}
data:
  attacks: [{{path: {folder / "attacks.json"}}}]
  benign: [{{path: {folder / "benign.jsonl"}}}]
  controls: {{from: benign, wrapper: flip-word-order}}
respond: {{filter: false, max_new_tokens: 8, max_thinking_tokens: 6, replicas: 1}}
batches: {{batch_size: 8, benign_per_batch: 2, control_per_batch: 2}}
capture: {{replicas: 1}}
gradients: {{replicas: 1}}
effects: {{replicas: 1, candidates: 4, prompts: 3}}
identify: {{top_k: 2, method: routing, threshold: 0.0, bootstrap_rounds: 20}}
train: {{num_epochs: 1, launch: process}}
evaluate: {{replicas: 1, max_length: 410, max_new_tokens: 8, max_thinking_tokens: 6, routing_prompts: 4}}
compare: {{arms: [base, selective-routing]}}
"""
    )
    return load_config(path, list(flags))


class Expected:
    """What a model has to see of each prompt: what its template writes, and the answer as its file has it."""

    def __init__(self, config):
        self.run, self.chat = RunDir(config.run_dir), load_chat(config.model)
        self.tokenizer = self.chat.tokenizer
        self.rows = {row["prompt_id"]: row for row in self.run.read_table("prompts.parquet").to_pylist()}

    def text(self, prompt_id):
        messages = self.rows[prompt_id]["messages"]
        if "System role" in self.tokenizer.chat_template and messages[0]["role"] == "system":
            both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            messages = [{"role": "user", "content": both}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def prompt(self, prompt_id):
        return self.tokenizer(self.text(prompt_id), add_special_tokens=False).input_ids

    def before(self, prompt_id):
        """The prompt and what the template writes before an answer, as it stands before one."""
        whole = self.text(prompt_id) + self.chat.frame.prefix + "x"
        return self.tokenizer(whole, add_special_tokens=False).input_ids[:-1]

    def span(self, text):
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        return [*tokens, self.chat.end] if len(tokens) <= MAX_ANSWER else tokens[:MAX_ANSWER]


def check_captured(expected, plan):
    """Every row of the batches: the whole prompt, then its answer, of which the span counts."""
    rows = [row for item in range(len(plan)) for row in plan.rows(item).to_pylist()]
    trained = {row["prompt_id"] for row in expected.run.read_table("batches.parquet").to_pylist()}
    assert {row["prompt_id"] for row in rows} == trained
    for row in rows:
        answer = expected.rows[row["prompt_id"]]["answer"]
        counted = row["tokens"][row["counted_from"] : row["counted_to"]]
        assert row["tokens"][: len(expected.prompt(row["prompt_id"]))] == expected.prompt(row["prompt_id"])
        if answer is not None:
            assert row["tokens"][: row["counted_from"]] == expected.before(row["prompt_id"])
            assert counted == expected.span(answer)
        assert row["counted_to"] == len(row["tokens"])


@pytest.mark.parametrize("template", [CHANNELS, NO_SYSTEM], ids=["channels", "no system role"])
def test_what_is_composed_and_counted_is_whole(tmp_path, template):
    config = configured(tmp_path, template)
    prepare(config)
    summary = compose(config)["summary"]
    assert summary["too_long"] == {}
    assert summary["answers"]["own"] == 0
    expected = Expected(config)
    plan = Plan(expected.run, "plan.parquet")
    with expected.run.open_parquet("batches.parquet") as batches:
        write_plan(plan, batches, config.capture, "identity")
    check_captured(expected, plan)


def test_rows_that_do_not_fit_go_with_their_pair_and_are_named(tmp_path, capsys):
    config = configured(tmp_path, CHANNELS, "batches.max_length=520")
    prepare(config)
    run, expected = RunDir(config.run_dir), Expected(config)
    summary = compose(config)["summary"]
    unsafe = [row for row in expected.rows.values() if row["label"] == "unsafe" and row["split"] == "train"]

    def length(row):
        return len(expected.before(row["prompt_id"])) + len(expected.span(row["answer"]))

    too_long = {row["prompt_id"] for row in unsafe if length(row) > 520}
    assert 3 < len(too_long) < len(unsafe) - 3, "some fit and some do not"
    assert (summary["too_long"]["unsafe"], summary["too_long"]["pairs"]) == (len(too_long), len(too_long))
    assert (
        expected.rows[min(too_long, key=[row["prompt_id"] for row in unsafe].index)]["source"]
        in summary["too_long_rows"]
    )
    kept = {row["prompt_id"] for row in run.read_table("batches.parquet").to_pylist() if row["label"] == "unsafe"}
    assert kept == {row["prompt_id"] for row in unsafe} - too_long
    assert "longer than batches.max_length or the model's window, so left out: " in capsys.readouterr().out


@pytest.mark.usefixtures("ray_here")
def test_every_prompt_reaches_every_stage_whole(tmp_path):
    config = configured(tmp_path, THINKS)
    run_all(config)
    run, expected = RunDir(config.run_dir), Expected(config)
    attacks = [expected.prompt(key) for key, row in expected.rows.items() if row["label"] == "unsafe"]
    assert 380 < median(map(len, attacks)) < 460
    assert run.exists("report.html")

    def planned(name):
        plan = Plan(run, f"plans/{name}.parquet")
        return [row for item in range(len(plan)) for row in plan.rows(item).to_pylist()]

    asked = planned("respond")
    training = {key for key, row in expected.rows.items() if row["split"] != "test"}
    without = {key for key in training if expected.rows[key]["answer"] is None}
    assert {row["prompt_id"] for row in asked if row["kind"] == ANSWERS} == without
    assert all(row["tokens"] == expected.prompt(row["prompt_id"]) for row in asked)
    check_captured(expected, Plan(run, "plans/capture.parquet"))
    # What the model thought before its own answers is seen, and not counted.
    own = [row for row in run.read_table("responses/responses.parquet").to_pylist() if not row["recorded"]]
    assert own
    summary = run.read_json("manifests/compose.json")["summary"]["answers"]
    assert summary["own"] > 0
    batches = {row["prompt_id"]: row for row in run.read_table("batches.parquet").to_pylist()}
    for row in own:
        if row["prompt_id"] in batches:
            assert batches[row["prompt_id"]]["answer_prefix"] == row["answer_prefix"]
    unsafe = [row for row in batches.values() if row["label"] == "unsafe"]
    assert {row["prompt_id"] for row in planned("gradients")} == {row["prompt_id"] for row in unsafe}
    for row in planned("gradients"):
        assert row["prompt"] == expected.before(row["prompt_id"])
        assert row["target"] == expected.span(batches[row["prompt_id"]]["target"])
    for row in planned("effects"):
        assert row["prompt"] == expected.before(row["prompt_id"])
        assert row["unsafe"] == batches[row["prompt_id"]]["answer_tokens"][:16]
    for place, example in enumerate(BatchData(run)):
        prompt_id = BatchData(run).prompt_ids[place]
        assert example.prompt == expected.before(prompt_id)
        assert example.target == batches[prompt_id]["target_tokens"]
        if place == 40:
            break
    held_out = {key for key, row in expected.rows.items() if row["split"] == "test"}
    examined = planned("eval.base")
    too_long = {key for key in held_out if len(expected.prompt(key)) > config.evaluate.max_length}
    assert 0 < len(too_long) < 6
    assert {row["prompt_id"] for row in examined if row["kind"] == ANSWERS} == held_out - too_long
    said = {row["prompt_id"]: row for row in run.read_table("eval/base/responses.parquet").to_pylist()}
    assert said.keys() == held_out, "the longest attacks do not vanish"
    for key in too_long:
        assert (said[key]["verdict"], said[key]["answer"]) == ("unparsed", "")
        assert "longer than evaluate.max_length" in said[key]["reason"]
    rate = run.read_json("eval/base.json")["overall"]["asr"]
    assert rate["n"] == sum(row["label"] == "unsafe" for row in said.values())
    assert rate["unparsed"] >= len(too_long)
    for row in examined:
        whole = expected.before if row["answer"] else expected.prompt
        assert [*row["tokens"], *row["prefix"]] == whole(row["prompt_id"])
    assert {row["kind"] for row in examined} == {ANSWERS, LOSSES, ROUTING, ANSWER_SHIFT}
    told = f"{summary['recorded']} come from the files and {summary['own']} are the model&#39;s own"
    assert told in run.read_bytes("report.html").decode()
