"""The prompts that models are examined on, none of whose goals was met in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import Config, Source
from moe_safety.errors import InputError
from moe_safety.evaluate.suites import HARMFUL, LABELS, suite_rows
from moe_safety.inputs.collect import Collector
from moe_safety.inputs.sources import read_source
from moe_safety.inputs.split import check_no_leak
from moe_safety.inputs.table import MESSAGES, goal_id
from moe_safety.models.text import Chat
from moe_safety.pipeline import BATCHES, PROMPTS
from moe_safety.rundir import RunDir

EXAM_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("goal_id", pa.string()),
        ("goal", pa.string()),
        ("label", pa.string()),
        ("attack", pa.string()),
        ("category", pa.string()),
        ("messages", MESSAGES),
        ("reference", pa.string()),
        ("reference_ended", pa.bool_()),
        ("batch_idx", pa.int32()),
        ("reattack", pa.bool_()),
        ("suite", pa.string()),
        ("opening", pa.string()),
        ("depth", pa.int32()),
    ]
)
"""`reference` is what a harmless prompt should get, and what a harmful one got when its file was made;
`reference_ended` whether that came to its end; `batch_idx` is that of the first training batch that a prompt stands in;
`reattack` marks attacks in wrappers kept from training. `suite` names the suite of a row. The answer to a row with an
`opening` goes on from it, or from its first `depth` tokens."""
_ACCOUNTS = b"suites"


def read_exam(config: Config, run: RunDir) -> pa.Table:
    """The prompts of the configured split, and those of further attacks on goals that are in no other split; answers
    are as their files have them."""
    if not run.exists(PROMPTS):
        raise InputError(f"`evaluate` needs {PROMPTS}, which is not there; run `prepare` before it", file=run.uri)
    prompts = run.read_table(PROMPTS)
    check_no_leak(prompts)
    settings = config.evaluate
    rows = prompts.filter(pc.equal(prompts["split"], settings.split)).to_pylist()
    chosen = [row for label in ("safe", "unsafe", "benign", "control") for row in _some(rows, label, settings.prompts)]
    if not chosen:
        raise InputError(f"no prompt is in the {settings.split} split", file=run.path(PROMPTS))
    again = _reattacks(config, prompts)
    suites, accounts = _suites(config, prompts)
    batch = _first_batches(run)
    if settings.split != "train":
        _check_unseen(run, prompts, {row["goal_id"] for row in [*chosen, *again, *suites]}, set(batch))
    places = batch if settings.split == "train" else {}
    asked = {row["prompt_id"] for row in chosen}
    examined = [(row, False) for row in chosen] + [(row, True) for row in again if row["prompt_id"] not in asked]
    table = pa.Table.from_pylist(
        [
            row | _reference(row) | {"batch_idx": places.get(row["prompt_id"]), "reattack": later}
            for row, later in [*examined, *((row, False) for row in suites)]
        ],
        schema=EXAM_SCHEMA,
    )
    return table.replace_schema_metadata({_ACCOUNTS: json.dumps(accounts)})


def final_texts(exam: pa.Table, chat: Chat) -> pa.Table:
    """The exam with answers' final text alone: thinking before it is neither weighed, judged nor gone on from."""
    rows = exam.to_pylist()
    for row in rows:
        for name in ("reference", *(["opening"] if row["depth"] else [])):
            row[name] = chat.split_text(row[name])[1] if row[name] else row[name]
    return pa.Table.from_pylist(rows, schema=exam.schema)


def accounts_of(exam: pa.Table) -> dict[str, dict[str, Any]]:
    """What of each suite's file is not asked."""
    found: dict[str, dict[str, Any]] = json.loads((exam.schema.metadata or {}).get(_ACCOUNTS, b"{}"))
    return found


def harmful_goals(config: Config, run: RunDir) -> dict[str, str]:
    """Every goal that stands for harm, by its id: the run's own, and those in files of further attacks and of suites,
    whether it is asked or left out."""
    prompts = run.read_table(PROMPTS, ["goal_id", "goal", "label"])
    own = prompts.filter(pc.is_in(prompts["label"], pa.array(HARMFUL))).to_pylist()
    suites = [suite.source for suite in config.evaluate.suites if LABELS[suite.kind] in HARMFUL]
    whole = config.data.model_copy(update={"max_samples": None, "only_successful": False})
    read = [read_source(source, "attacks", whole, prefills=True) for source in [*config.evaluate.reattack, *suites]]
    further = {goal_id(row.goal): row.goal for source in read for row in source.rows if row.label in HARMFUL}
    return further | {row["goal_id"]: row["goal"] or "" for row in own}


def _some(rows: Sequence[dict[str, Any]], label: str, at_most: int | None) -> list[dict[str, Any]]:
    """All prompts of a kind, or as many as are asked for: those whose ids, which are hashes, come first."""
    found = [row for row in rows if row["label"] == label]
    if at_most is None or len(found) <= at_most:
        return found
    drawn = {row["prompt_id"] for row in sorted(found, key=lambda row: row["prompt_id"])[:at_most]}
    return [row for row in found if row["prompt_id"] in drawn]


def _reference(row: dict[str, Any]) -> dict[str, Any]:
    name = "answer" if row["target"] is None else "target"
    return {"reference": row[name], "reference_ended": row[f"{name}_ended"]}


def _suites(config: Config, prompts: pa.Table) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The prompts of all suites, and what of each is not asked."""
    elsewhere = _elsewhere(config, prompts)
    read = {suite.name: suite_rows(config, suite, elsewhere) for suite in config.evaluate.suites}
    return [row for one in read.values() for row in one.rows], {name: one.account() for name, one in read.items()}


def _elsewhere(config: Config, prompts: pa.Table) -> set[str]:
    """The goals of other splits."""
    others = prompts.filter(pc.not_equal(prompts["split"], config.evaluate.split))
    return set(others["goal_id"].to_pylist())


def _reattacks(config: Config, prompts: pa.Table) -> list[dict[str, Any]]:
    """The attack forms in further sources, each under the name of its attack, or of its file where it has the name of
    an attack that was trained on. Goals of no split are test goals, or choices would be made by what is told."""
    known, split = set(prompts["attack"].unique().to_pylist()), config.evaluate.split
    taken = _elsewhere(config, prompts)
    there = set(prompts.filter(pc.equal(prompts["split"], split))["goal_id"].to_pylist())
    found: list[dict[str, Any]] = []
    for source in config.evaluate.reattack:
        forms = _attack_forms(config, source)
        rows = [row for row in forms if (row["goal_id"] not in taken if split == "test" else row["goal_id"] in there)]
        if not rows and split == "test":
            raise InputError("every goal of it stands in another split", file=source.label, key="evaluate.reattack")
        file = source.label.replace("\\", "/").split("/")[-1].split(":")[-1].partition(".")[0]
        for row in _some(rows, "unsafe", config.evaluate.prompts):
            name = row["attack"]
            own = source.attack is not None or (name is not None and name not in known)
            found.append(row | {"attack": name if own else file})
    return found


def _attack_forms(config: Config, source: Source) -> list[dict[str, Any]]:
    collector = Collector(config.data.system)
    collector.add_attacks([read_source(source, "attacks", config.data)])
    rows = collector.table(0.0, 0.0, config.seed).to_pylist()
    return [row for row in rows if row["label"] == "unsafe"]


def _first_batches(run: RunDir) -> dict[str, int]:
    """By prompt, the first training batch that it stands in; none where there are no batches."""
    if not run.exists(BATCHES):
        return {}
    found: dict[str, int] = {}
    for row in run.read_table(BATCHES, ["batch_idx", "prompt_id"]).to_pylist():
        found.setdefault(row["prompt_id"], row["batch_idx"])
    return found


def _check_unseen(run: RunDir, prompts: pa.Table, examined: set[str], trained: set[str]) -> None:
    """A goal that is examined may stand in no training batch."""
    goal = dict(zip(prompts["prompt_id"].to_pylist(), prompts["goal_id"].to_pylist(), strict=True))
    if strangers := sorted(trained - goal.keys()):
        raise InputError(f"prompt {strangers[0]} is not in {PROMPTS}; run `compose` again", file=run.path(BATCHES))
    if leaks := sorted(examined & {goal[prompt] for prompt in trained}):
        more = f" ({len(leaks)} goals leak)" if len(leaks) > 1 else ""
        raise InputError(f"goal {leaks[0]} was trained on and is to be examined{more}", file=run.path(BATCHES))
