"""Prompts and answers as long as real ones reach every stage whole, in the form that their template gives them."""

from functools import wraps
from statistics import median

import numpy as np
import pytest
import torch

from moe_safety.batches.compose import compose
from moe_safety.config import load_config
from moe_safety.evaluate.plan import ANSWER_SHIFT, LOSSES, ROUTING
from moe_safety.generation.items import ANSWERS
from moe_safety.inputs.prepare import prepare
from moe_safety.jobs import Plan
from moe_safety.models.io import load_chat
from moe_safety.pipeline import STAGES, in_order, run_one
from moe_safety.rundir import RunDir
from moe_safety.train.data import BatchData
from tests.evaluate import here
from tests.lengths import Texts, write_files, write_model
from tests.templates import CHANNELS, TEMPLATES

MAX_ANSWER = 128


def configured(folder, template, *flags, goals=30):
    texts = Texts(template)
    write_model(folder / "model", texts)
    write_files(folder, texts, goals)
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

    def tokens(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def prompt(self, prompt_id):
        return self.tokens(self.text(prompt_id))

    def answered(self, prompt_id, answer):
        """The prompt, with what the template writes before an answer, and the span of the answer."""
        prompt, prefix = self.prompt(prompt_id), self.chat.frame.prefix
        before, start = self.text(prompt_id) + prefix, len(prompt)
        whole = self.tokens(before + answer)
        if whole[:start] != prompt:
            # What is said goes on from the prompt's last token, and is not joined with it.
            whole = prompt + self.tokens(prefix + answer)
        # A space before an answer may be the beginning of its first token.
        while before.startswith(self.tokenizer.decode(whole[: start + 1])):
            start += 1
        own = whole[start:]
        return whole[:start], [*own, self.chat.end] if len(own) <= MAX_ANSWER else own[:MAX_ANSWER]


def check_captured(expected, plan):
    """Every row of the batches: the whole prompt, then its answer, of which the span counts."""
    rows = [row for item in range(len(plan)) for row in plan.rows(item).to_pylist()]
    trained = {row["prompt_id"] for row in expected.run.read_table("batches.parquet").to_pylist()}
    assert {row["prompt_id"] for row in rows} == trained
    for row in rows:
        answer, tokens = expected.rows[row["prompt_id"]]["answer"], row["tokens"]
        whole = expected.prompt(row["prompt_id"])
        assert tokens[: len(whole)] == whole
        if answer is not None:
            found = tokens[: row["counted_from"]], tokens[row["counted_from"] : row["counted_to"]]
            assert found == expected.answered(row["prompt_id"], answer)
        assert row["counted_to"] == len(tokens)


def test_rows_that_do_not_fit_go_with_their_pair_and_are_named(tmp_path, capsys):
    config = configured(tmp_path, CHANNELS, "batches.max_length=520")
    prepare(config)
    run, expected = RunDir(config.run_dir), Expected(config)
    summary = compose(config)["summary"]
    unsafe = [row for row in expected.rows.values() if row["label"] == "unsafe" and row["split"] == "train"]

    def length(row):
        return sum(map(len, expected.answered(row["prompt_id"], row["answer"])))

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


@pytest.fixture
def seen(monkeypatch):
    """Every row of tokens that a model reads, by what `seen.stage` is then."""
    rows, real = {}, torch.nn.Embedding.forward

    @wraps(real)
    def recorded(self, ids):
        rows.setdefault(rows["stage"], []).extend(row.astype(np.int32).tobytes() for row in np.atleast_2d(ids.numpy()))
        return real(self, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", recorded)
    return rows


@pytest.fixture
def without_ray(monkeypatch):
    """Work items are handled in this process."""
    import moe_safety.jobs.handle as driver

    monkeypatch.setattr(driver, "handle", here.handle)
    monkeypatch.setattr(driver.ray, "is_initialized", lambda: True)


def whole(tokens):
    return np.array(tokens, np.int32).tobytes()


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_every_prompt_reaches_every_stage_whole(tmp_path, template, seen):
    """`prepare` to `report`, in this process: five seconds of a processor for each template, half a minute in all."""
    config = configured(tmp_path, template, goals=12)
    prepare(config)
    expected, run = Expected(config), RunDir(config.run_dir)
    held_out = {key for key, row in expected.rows.items() if row["split"] == "test"}
    lengths = {key: len(expected.prompt(key)) for key in held_out}
    longest = max(lengths.values())
    config = load_config(tmp_path / "run.yaml", [f"evaluate.max_length={longest - 1}"])
    for stage in in_order(STAGES):
        seen["stage"] = stage.name
        if stage.needed_when(config) or stage.name in ("gradients", "effects"):
            run_one(stage.name, config, **({"pictures": False} if stage.name == "identify" else {}))
    assert run.exists("report.html")
    attacks = [expected.prompt(key) for key, row in expected.rows.items() if row["label"] == "unsafe"]
    assert 380 < median(map(len, attacks)) < 460

    def planned(name):
        plan = Plan(run, f"plans/{name}.parquet")
        return [row for item in range(len(plan)) for row in plan.rows(item).to_pylist()]

    def reached(stage, rows):
        assert rows
        everything = b"|".join(seen[stage])
        assert [one for one in rows if whole(one) not in everything] == [], stage

    asked = planned("respond")
    training = {key for key, row in expected.rows.items() if row["split"] != "test"}
    without = {key for key in training if expected.rows[key]["answer"] is None}
    assert {row["prompt_id"] for row in asked if row["kind"] == ANSWERS} == without
    assert all(row["tokens"] == expected.prompt(row["prompt_id"]) for row in asked)
    reached("respond", [expected.prompt(key) for key in without])
    check_captured(expected, Plan(run, "plans/capture.parquet"))
    reached("capture", [row["tokens"] for row in planned("capture")])
    # What the model thought before its own answers is seen, and not counted.
    own = [row for row in run.read_table("responses/responses.parquet").to_pylist() if not row["recorded"]]
    assert own
    summary = run.read_json("manifests/compose.json")["summary"]
    assert (summary["answers"]["own"] > 0, summary["too_long"]) == (True, {})
    batches = {row["prompt_id"]: row for row in run.read_table("batches.parquet").to_pylist()}
    for row in own:
        if row["prompt_id"] in batches:
            assert batches[row["prompt_id"]]["answer_prefix"] == row["answer_prefix"]
    unsafe = [row for row in batches.values() if row["label"] == "unsafe"]
    assert {row["prompt_id"] for row in planned("gradients")} == {row["prompt_id"] for row in unsafe}
    for row in planned("gradients"):
        told = row["prompt"], row["target"]
        assert told == expected.answered(row["prompt_id"], batches[row["prompt_id"]]["target"])
    reached("gradients", [row["prompt"] + row["target"] for row in planned("gradients")])
    for row in planned("effects"):
        own = batches[row["prompt_id"]]
        assert row["prompt"] == expected.answered(row["prompt_id"], own["target"])[0]
        assert row["unsafe"] == own["answer_tokens"][:16]
    reached("effects", [row["prompt"] + row["unsafe"] for row in planned("effects")])
    learned = BatchData(run)
    for prompt_id, example in zip(learned.prompt_ids, learned, strict=True):
        if batches[prompt_id]["label"] in ("safe", "unsafe") or expected.rows[prompt_id]["target"]:
            assert (example.prompt, example.target) == expected.answered(prompt_id, batches[prompt_id]["target"])
        assert example.target == batches[prompt_id]["target_tokens"]
    reached("compare", [example.prompt + example.target for example in learned])
    examined = planned("eval.base")
    too_long = {key for key in held_out if lengths[key] == longest}
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
        tokens = [*row["tokens"], *row["prefix"]], row["answer"]
        known = expected.rows[row["prompt_id"]]
        reference = known["target"] or known["answer"]
        weighed = row["kind"] != ANSWERS and reference
        assert tokens == (
            expected.answered(row["prompt_id"], reference) if weighed else (expected.prompt(row["prompt_id"]), [])
        )
    assert {row["kind"] for row in examined} == {ANSWERS, LOSSES, ROUTING, ANSWER_SHIFT}
    reached("compare", [row["tokens"] + row["prefix"] + row["answer"] for row in examined])
    told = (
        f"{summary['answers']['recorded']} come from the files and {summary['answers']['own']} are the model&#39;s own"
    )
    assert told in run.read_bytes("report.html").decode()
