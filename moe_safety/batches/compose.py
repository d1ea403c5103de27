"""`compose`: the mixed batches with training targets, the one contract of analysis and training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc

from moe_safety.batches.encoded import Encoder, in_parts
from moe_safety.batches.files import write_batches
from moe_safety.batches.mixed import Composed, PromptPair, TableRow, fill, helpful, make_pairs
from moe_safety.batches.respond import settings_of as answering
from moe_safety.batches.verdicts import why_nothing_is_left
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.inputs.split import check_no_leak
from moe_safety.models.io import load_chat, model_fingerprint, window_of
from moe_safety.pipeline import BATCHES, PROMPTS, RESPONSES
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work, check_settings, manifest_name, summary_of

_ANSWERED = manifest_name("respond")
_NAMED = 20
"""Rows that are too long and named one by one; of more, the number is told."""


def compose(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `batches.parquet` from the training prompts that `respond` kept."""
    run = RunDir(config.run_dir)
    _check_configured(config, run)
    responses = (RESPONSES,) if run.exists(RESPONSES) else ()
    work = Work(
        "compose",
        settings=settings_of(config),
        reads=(PROMPTS, *responses),
        others={"model": model_fingerprint(config.model)},
    )
    return perform(config, work, partial(_compose, config, run), force=force)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides the batches, beside the prompts, their answers and the tokenizer."""
    return {
        "seed": config.seed,
        "batches": results_only(config.batches),
        "model": {"chat_template_kwargs": config.model.chat_template_kwargs},
    }


def _compose(config: Config, run: RunDir) -> Outcome:
    prompts = run.read_table(PROMPTS)
    check_no_leak(prompts)
    _check_current(run)
    encoder, train = _encoder(config), prompts.filter(pc.equal(prompts["split"], "train"))
    rows = _with_answers([in_parts(row, encoder.chat) for row in train.to_pylist()], run)
    _check_something_left(config, run, rows)
    encoded = Fitting(encoder)
    pairs = encoded.pairs(make_pairs(rows, config.seed))
    harmless = {label: encoded.rows(helpful(rows, label)) for label in config.batches.harmless}
    composed = fill(pairs, harmless.get("benign", []), harmless.get("control", []), config.batches)
    write_batches(run, composed.table(), encoder)
    summary = {
        "batches": len(composed.batches),
        "partial": composed.partial,
        "rows": sum(map(len, composed.batches)),
        "labels": dict(Counter(row["label"] for batch in composed.batches for row in batch)),
        "answered_by": "respond" if run.exists(RESPONSES) else "the files alone",
        "answers": _whose(composed),
        "attacks": _judged_attacks(composed),
        "leftover": composed.leftover,
        "reused": composed.reused,
        "too_long": dict(encoded.too_long),
        "too_long_rows": encoded.named,
    }
    return Outcome(outputs=(BATCHES,), summary=summary | _weights(run))


def _encoder(config: Config) -> Encoder:
    settings, window = config.batches, window_of(config.model)
    longest = settings.max_length if window is None else min(settings.max_length, window)
    return Encoder(load_chat(config.model), longest, settings.max_answer)


class Fitting:
    """Encodes rows, and leaves out those that are longer than a row may be, with their pair."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.too_long: Counter[str] = Counter()
        """Rows by label, and pairs that fell with them."""
        self.named: list[str] = []
        """Where the first of them stand in their files."""
        self._known: dict[str, TableRow | None] = {}

    def pairs(self, pairs: Sequence[PromptPair]) -> list[PromptPair]:
        """The pairs of which both prompts fit; the others are counted."""
        found = iter(self._fitting([row for pair in pairs for row in (pair.safe, pair.unsafe)]))
        whole = [PromptPair(safe, unsafe) for safe, unsafe in zip(found, found, strict=True) if safe and unsafe]
        if len(whole) < len(pairs):
            self.too_long["pairs"] = len(pairs) - len(whole)
        return whole

    def rows(self, rows: Sequence[TableRow]) -> list[TableRow]:
        """The rows that fit; the others are counted."""
        return [row for row in self._fitting(rows) if row]

    def _fitting(self, rows: Sequence[TableRow]) -> list[TableRow | None]:
        """Each row, encoded; nothing in its place where it is too long. A plain form may stand in several pairs."""
        new: dict[str, TableRow] = {}
        for row in rows:
            if row["prompt_id"] not in self._known:
                new.setdefault(row["prompt_id"], row)
        for row, encoded in zip(new.values(), self.encoder.each(new.values()), strict=True):
            fits = self.encoder.fits(encoded)
            self._known[row["prompt_id"]] = {**row, **encoded} if fits else None
            if not fits:
                self._note(row)
        return [self._known[row["prompt_id"]] for row in rows]

    def _note(self, row: TableRow) -> None:
        self.too_long[row["label"]] += 1
        if len(self.named) < _NAMED:
            self.named.append(row.get("source") or row["prompt_id"])


def _check_configured(config: Config, run: RunDir) -> None:
    """What `respond` left is what it would leave as configured now; kinds of prompt that are not asked for any more may
    have been answered too."""
    if not (run.exists(RESPONSES) and run.exists(_ANSWERED)):
        return
    settings, answered = answering(config), run.read_json(_ANSWERED)["settings"]["labels"]
    if set(settings["labels"]) <= set(answered):
        settings["labels"] = answered
    check_settings(run, "respond", settings)


def _check_something_left(config: Config, run: RunDir, rows: list[TableRow]) -> None:
    """Where verdicts left nothing of a kind, that is said, and not that batches do not fill."""
    if not run.exists(RESPONSES):
        return
    prompts = run.read_table(PROMPTS, ["prompt_id", "split"])
    here = prompts.filter(pc.equal(prompts["split"], "train"))["prompt_id"]
    responses = run.read_table(RESPONSES)
    responses = responses.filter(pc.is_in(responses["prompt_id"], here))
    left = {row["label"] for row in rows}
    for label in (label for label in ("unsafe", *config.batches.harmless) if label not in left):
        if reason := why_nothing_is_left(responses, label):
            raise InputError(reason, file=run.path(RESPONSES))


def _check_current(run: RunDir) -> None:
    """Answers to other prompts would pass for a choice among these."""
    if not (run.exists(RESPONSES) and run.exists(_ANSWERED)):
        return
    if run.read_json(_ANSWERED)["inputs"][PROMPTS] != run.digest(PROMPTS):
        raise InputError("are of other prompts; run `respond` again", file=run.path(RESPONSES))


def _with_answers(prompts: list[dict[str, Any]], run: RunDir) -> list[TableRow]:
    """The prompts with what the model said; without `respond`, with what the files recorded, none of it judged."""
    if not run.exists(RESPONSES):
        return [{**row, "verdict": None, "answer_said": None, "recorded": True} for row in prompts]
    answers = {row["prompt_id"]: row for row in run.read_table(RESPONSES).to_pylist() if row["kept"]}
    found = ((prompt, answers.get(prompt["prompt_id"])) for prompt in prompts)
    return [{**prompt, **_answered(answer)} for prompt, answer in found if answer]


def _answered(answer: TableRow) -> dict[str, Any]:
    said = {"prefix": answer["answer_prefix"], "tokens": answer["answer_tokens"]}
    return {
        "answer": answer["answer"],
        "answer_ended": answer["ended"],
        "answer_said": None if answer["recorded"] else said,
        "recorded": answer["recorded"],
        "verdict": answer["verdict"],
    }


def _whose(composed: Composed) -> dict[str, int]:
    """How many of the answers that are counted come from a file, and how many the model gave here."""
    rows = {row["prompt_id"]: row for batch in composed.batches for row in batch if row["answer"]}
    recorded = sum(bool(row["recorded"]) for row in rows.values())
    return {"recorded": recorded, "own": len(rows) - recorded}


def _judged_attacks(composed: Composed) -> dict[str, int]:
    """How many answers to attacks have which verdict; `none` where a file's answer was not judged."""
    rows = {row["prompt_id"]: row for batch in composed.batches for row in batch if row["label"] == "unsafe"}
    return dict(Counter(row["verdict"] or "none" for row in rows.values() if row["answer"]))


def _weights(run: RunDir) -> dict[str, float]:
    """How likely the model found recorded answers, which `respond` measured."""
    if not (run.exists(RESPONSES) and run.exists(_ANSWERED)):
        return {}
    summary = summary_of(run, "respond")
    return {name: summary[name] for name in ("recorded_nats", "own_nats") if name in summary}
