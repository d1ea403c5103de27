"""Suites: prompts of their own files, each suite with figures of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.config import Config, Question, SuiteConfig
from moe_safety.errors import InputError
from moe_safety.evaluate.measures import WITH_HARM, corrected, measures, success_at
from moe_safety.inputs import Role
from moe_safety.inputs.collect import Collector
from moe_safety.inputs.sources import read_source
from moe_safety.judges import Performance

LABELS = {"attack": "unsafe", "harmful": "safe", "harmless": "benign", "harmless_in_wrapper": "control"}
HARMFUL = ("safe", "unsafe")
"""The labels whose goal is harmful, asked plainly or in an attack."""
_ROLES: Mapping[str, Role] = {
    "attack": "attacks",
    "harmful": "attacks",
    "harmless": "benign",
    "harmless_in_wrapper": "controls",
}
"""Under which key of `data` a source of the kind would stand."""
MAIN = {
    "attack": "asr",
    "harmful": "plain_refusal",
    "harmless": "over_refusal",
    "harmless_in_wrapper": "over_refusal_control",
}
"""What a suite is about, by its kind."""
_AGAIN, _PLAIN = "the same conversation as another row's", "a plain goal, and no attack on it"


@dataclass(frozen=True)
class SuiteRows:
    """The prompts of a suite, and what of its file is not asked."""

    rows: list[dict[str, Any]]
    left_out: int
    """Prompts whose goal stands in another split."""
    dropped: dict[str, int]
    """Rows that its reader skips or merges, by reason."""

    def account(self) -> dict[str, Any]:
        """What is told of it beside its figures."""
        return {"left_out": self.left_out, "dropped": self.dropped}


def suite_rows(config: Config, suite: SuiteConfig, elsewhere: Collection[str]) -> SuiteRows:
    """The suite's prompts, of goals that stand in no other split. Ids hold the suite's name: the same prompt may stand
    in several."""
    rows, dropped = _read(config, suite)
    kept = [row for row in rows if row["goal_id"] not in elsewhere]
    if not kept:
        what = "every goal of it stands in another split" if rows else f"has no prompt of the kind {suite.kind}"
        raise InputError(what, file=suite.source.label, key="evaluate.suites")
    asked = (
        sorted(kept, key=lambda row: row["prompt_id"])[: config.evaluate.prompts] if config.evaluate.prompts else kept
    )
    return SuiteRows([one for row in asked for one in _asked(suite, row)], len(rows) - len(kept), dropped)


def _read(config: Config, suite: SuiteConfig) -> tuple[list[dict[str, Any]], dict[str, int]]:
    # What training leaves out, or takes a part of, is asked here all the same.
    data = config.data.model_copy(update={"max_samples": None, "only_successful": False})
    source, collector, label = suite.source, Collector(config.data.system), LABELS[suite.kind]
    read = read_source(source, _ROLES[suite.kind], data, prefills=True)
    {"attacks": collector.add_attacks, "benign": collector.add_benign, "controls": collector.add_controls}[
        _ROLES[suite.kind]
    ]([read])
    rows = [row for row in collector.table(0.0, 0.0, config.seed).to_pylist() if row["label"] == label]
    merged = sum(count for name, count in read.duplicates.items() if name.partition(",")[0] == label)
    plain = sum(row.label == "safe" for row in read.rows) if label == "unsafe" and not source.wrapper else 0
    further = {_AGAIN: merged, _PLAIN: plain}
    return rows, dict(read.dropped) | {reason: count for reason, count in further.items() if count}


def _asked(suite: SuiteConfig, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The row as the exam has it: its opening apart, or once for each depth of its recorded answer."""
    *before, last = row["messages"]
    opening = last["content"] if last["role"] == "assistant" else None
    known = {"suite": suite.name, "reattack": False, "messages": before if opening is not None else row["messages"]}
    own = row | known | {"attack": suite.name if suite.kind == "attack" else row["attack"]}
    name = f"{suite.name}:{row['prompt_id']}"
    if not suite.depths:
        yield own | {"prompt_id": name, "opening": opening}
    elif row["answer"] is None:
        place, _, number = row["source"].rpartition(":")
        raise InputError("records no answer, which `depths` are of", file=place, row=int(number))
    else:
        for depth in suite.depths:
            yield own | {"prompt_id": f"{name}@{depth}", "opening": row["answer"], "depth": depth}


def is_own(responses: pa.Table) -> pa.Array:
    """Which rows are of the run's own prompts: neither of further attacks nor of suites."""
    own = pc.invert(responses["reattack"])
    return pc.and_(own, pc.is_null(responses["suite"])) if "suite" in responses.column_names else own


def suite_results(
    suites: Collection[SuiteConfig],
    responses: pa.Table,
    performances: Mapping[Question, Performance],
    accounts: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The figures of each suite: those that are about its kind of prompt, and what else is known of it."""
    return {suite.name: _result(suite, responses, performances, accounts[suite.name]) for suite in suites}


def _result(
    suite: SuiteConfig, responses: pa.Table, performances: Mapping[Question, Performance], account: Mapping[str, Any]
) -> dict[str, Any]:
    own = responses.filter(pc.equal(responses["suite"], suite.name))
    rates = _rates(suite, own)
    # A calibration is of the run's own judges.
    known = {question: one for question, one in performances.items() if question not in suite.judges}
    more = {
        "twin": suite.twin,
        "against": suite.against,
        "corrected": corrected(own, known, rates.keys()),
        "success_at": success_at(own) if suite.kind == "attack" else {},
        "by_depth": {str(depth): _rates(suite, own.filter(pc.equal(own["depth"], depth))) for depth in suite.depths},
    }
    found = {"kind": suite.kind, "main": MAIN[suite.kind], **account, "rates": rates}
    return found | {name: value for name, value in more.items() if value}


def _rates(suite: SuiteConfig, responses: pa.Table) -> dict[str, Any]:
    label = LABELS[suite.kind]
    kept = ("unparsed", *(name for name, measure in WITH_HARM.items() if measure.label == label))
    kept += ("unparsed_harm",) if label in HARMFUL else ()
    return {name: rate for name, rate in measures(responses)["overall"].items() if name in kept}
