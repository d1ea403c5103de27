"""Examines several subjects with one pool of actors, and judges what they said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.encoded import Encoder, prompt_room, tokenizer_digest
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.evaluate.evaluated_models import Subject, base_subject
from moe_safety.evaluate.harness import Harness, Solved, check_harness
from moe_safety.evaluate.judging import Judging, said
from moe_safety.evaluate.plan import PREFILLS, TASKS, sample_id, samples_of, write_exam
from moe_safety.evaluate.prompts import accounts_of, final_texts, harmful_goals, read_exam
from moe_safety.evaluate.reidentify import by_routing, recapture_job, reidentify, selection_of_base
from moe_safety.evaluate.robustness import (
    BATCH,
    PROMPTS_OF_A_KIND,
    check_harmless,
    digest_of,
    harmless_rows,
    robustness_items,
    usual_refusal,
)
from moe_safety.evaluate.suites import is_own
from moe_safety.generation import ENGINES, Ability, check_able, engine_settings, limits_of, opening_of
from moe_safety.generation.items import ANSWERS, at_once, tables_of
from moe_safety.jobs import Job, Parts, Plan, run_jobs
from moe_safety.judges import Exchange, ask, judges_settings
from moe_safety.models.io import load_chat, skeleton_of, window_of
from moe_safety.models.text import Chat
from moe_safety.pipeline import BATCHES, PROMPTS, RISK
from moe_safety.rundir import RunDir, Work


@dataclass
class Session:
    """One examination: the same prompts, settings and judge for every subject."""

    config: Config
    run: RunDir
    within: str | None = None
    """The folder of its results, among those of their split, where it asks less than others do."""

    @cached_property
    def exam_of_files(self) -> pa.Table:
        """The prompts that are asked, as their files have them."""
        return read_exam(self.config, self.run)

    @cached_property
    def exam(self) -> pa.Table:
        """The prompts that are asked."""
        return final_texts(self.exam_of_files, load_chat(self.config.model))

    @cached_property
    def harness(self) -> Harness:
        """The tasks of lm-evaluation-harness."""
        return Harness(self.config.evaluate, self.config.data.system)

    @cached_property
    def judging(self) -> Judging:
        """Who judges answers."""
        return Judging(self.config)

    def check_judges(self) -> None:
        """What can be known of the judges before hours of work."""
        self.judging.check()
        if self.config.evaluate.after_finetuning and self.config.judges.harm is None:
            raise InputError("needs judges.harm, which says that rows are harmless", key="evaluate.after_finetuning")

    @property
    def root(self) -> str:
        """Where results go: those on other splits have a folder of their own."""
        split = self.config.evaluate.split
        return "/".join(filter(None, ("eval", None if split == "test" else split, self.within)))

    def folder(self, subject: Subject) -> str:
        """The folder of an evaluated model's files."""
        return f"{self.root}/{subject.name}"

    def stage(self, subject: Subject, reads: Sequence[str] = ()) -> Work:
        """What decides a subject's results."""
        anew = self._is_identified(subject)
        batches = (BATCHES,) if anew or self.config.evaluate.split == "train" else ()
        return Work(
            self.folder(subject).replace("eval", "evaluate", 1),
            settings=self._settings | (self._identifying if anew else {}),
            reads=(PROMPTS, *batches, *((RISK, self._before) if anew else ()), *reads),
            others=subject.identity | self._others | self._reattacks,
            folder=self.folder(subject),
            keyed=self._answers(subject),
        )

    def parts(self, subject: Subject) -> Parts:
        """The parts of an evaluated model's answers."""
        folder = self.folder(subject)
        return Parts(self.run, self._answers(subject), Plan(self.run, f"plans/{folder.replace('/', '.')}.parquet"))

    def _answers(self, subject: Subject) -> str:
        return f"{self.folder(subject)}/_parts"

    def examine(self, subjects: Sequence[Subject]) -> None:
        """Leaves the parts of all of them; what is there already is not done again."""
        self.check_judges()
        # What is asked of one model stands together, so that a replica loads it once.
        jobs = []
        for subject in subjects:
            jobs.append(self._job(subject))
            if self._is_identified(subject):
                jobs.append(recapture_job(self.config, self.run, subject, self._anew(subject)))
        run_jobs(jobs, "evaluate")

    def responses(self, subject: Subject) -> pa.Table:
        """The prompts with the subject's answers and their verdicts, in the order of the exam."""
        tables = [table for kind in (ANSWERS, PREFILLS) for table in tables_of(self.parts(subject), kind)]
        answers = {row["prompt_id"]: row for table in tables for row in table.to_pylist()}
        rows = [
            row | {"sample": sample} | said(answers.get(sample_id(row["prompt_id"], sample)))
            for row in self.exam.to_pylist()
            for sample in samples_of(row, self.config.evaluate)
        ]
        asked = [row for row in rows if sample_id(row["prompt_id"], row["sample"]) in answers]
        return self.judging.judged(rows, asked)

    def identified(self, subject: Subject) -> dict[str, object] | None:
        """What identification finds on it, where that is asked for."""
        if not self._is_identified(subject):
            return None
        return reidentify(self.config, self.run, subject, self._anew(subject))

    def _is_identified(self, subject: Subject) -> bool:
        """A steered model is the base."""
        hardened = subject != base_subject(self.config) and not subject.avoided
        return self.config.evaluate.reidentify and hardened

    def _anew(self, subject: Subject) -> str:
        return f"{self.folder(subject)}/identify"

    @cached_property
    def _before(self) -> str:
        """The base's selection that a hardened model's is compared with."""
        return selection_of_base(self.config)

    @cached_property
    def _identifying(self) -> dict[str, object]:
        config = by_routing(self.config)
        return {"identify": results_only(config.identify), "capture": results_only(config.capture)}

    @cached_property
    def _settings(self) -> dict[str, Any]:
        settings = results_only(self.config.evaluate)
        # They say which subject is meant.
        named = {name: settings[name] for name in settings if name not in ("model_path", "output_name")}
        model = self.config.model.identity | {"max_answer": self.config.batches.max_answer}
        engine = engine_settings(self.config, self.config.evaluate.engine)
        judges = judges_settings(self.config.judges)
        return {"seed": self.config.seed, "model": model, "evaluate": named, "judges": judges, **engine}

    @cached_property
    def _others(self) -> dict[str, str]:
        return self.judging.inputs | self._answering

    @cached_property
    def _answering(self) -> dict[str, str]:
        """Of these, what decides a subject's parts: all but the judge's."""
        return check_harness(self.config) | ENGINES.identity(self.config.evaluate.engine)

    @cached_property
    def _reattacks(self) -> dict[str, str]:
        """Hashes of the prompts that further files give, which settings of `data` have a part in."""
        found = {}
        if self.config.evaluate.reattack:
            found["set of re-attacks"] = _digest(self.exam_of_files.filter(self.exam_of_files["reattack"]))
        if self._training:
            found["rows of fine-tuning"] = digest_of(self._training)
        if self._refusal:
            found["refusal of margins"] = hashlib.sha256(self._refusal.encode()).hexdigest()
        if self.config.evaluate.suites:
            asked = _digest(self.exam_of_files.filter(pc.is_valid(self.exam_of_files["suite"])))
            found["prompts of suites"] = hashlib.sha256(
                f"{asked} {accounts_of(self.exam_of_files)}".encode()
            ).hexdigest()
        return found

    def _job(self, subject: Subject) -> Job:
        from moe_safety.evaluate.examiner import examiner
        from moe_safety.evaluate.routing_drift import can_read

        parts, settings = self.parts(subject), self.config.evaluate
        opening = opening_of(self.config, settings, subject.opened_by(settings.engine))
        if subject.avoided:
            check_able(settings.engine, Ability.AVOIDS_EXPERTS, "evaluate.engine")
        identity = self._identity(subject)
        if not parts.plan.stands(identity):
            write_exam(
                parts.plan,
                self._encoded(subject),
                opening,
                settings,
                seed=self.config.seed,
                routing=settings.routing_prompts > 0 and can_read(skeleton_of(subject.model)),
                tasks=self._requests(load_chat(subject.model)),
                further=self._robustness(subject),
                identity=identity,
            )
        build = partial(examiner, opening, subject.avoided, settings)
        return Job(parts.plan, parts, build, settings, partial(at_once, parts.plan, opening))

    def _encoded(self, subject: Subject) -> list[dict[str, Any]]:
        """The exam as the subject's model sees it. Arms share their base's tokenizer, so that is done once."""
        chat = load_chat(subject.model)
        digest, settings = tokenizer_digest(chat), self.config.evaluate
        if (known := self._exams.get(digest)) is not None:
            return known
        encoder = self._encoder(subject, chat)
        room = prompt_room(chat, settings.max_length, window_of(subject.model), limits_of(settings))
        rows, exam = [], self.exam.to_pylist()
        asked = (row | {"target": row["reference"], "target_ended": row["reference_ended"]} for row in exam)
        for row, found in zip(exam, encoder.each(asked), strict=True):
            encoded = found | _opening(chat, row)
            begun = sum(len(encoded[name]) for name in ("prompt_tokens", "opening_prefix", "opening_tokens"))
            fits = {"fits": encoder.fits(encoded), "prompt_fits": begun <= room}
            rows.append(row | encoded | fits)
        self._exams[digest] = rows
        return rows

    def _encoder(self, subject: Subject, chat: Chat) -> Encoder:
        longest = self.config.evaluate.max_length
        return Encoder(chat, min(longest, window_of(subject.model) or longest), self.config.batches.max_answer)

    def _robustness(self, subject: Subject) -> list[pa.Table]:
        """Items that measure how robust the subject is, where that is asked for."""
        settings = self.config.evaluate
        if not (settings.held_back or settings.after_finetuning):
            return []
        encoder = self._encoder(subject, load_chat(subject.model))
        exam = [
            row if row["prompt_id"] in self._answers_known else row | {"reference": None}
            for row in self._encoded(subject)
        ]
        return list(robustness_items(exam, encoder, self._refusal, settings, self._judged_harmless))

    @cached_property
    def _answers_known(self) -> set[str]:
        """The attacks on which margins can be measured: of the first, those whose recorded answer is no refusal. Files
        whose successes nobody looked at hold such too."""
        rows = self.exam.filter(is_own(self.exam)).to_pylist()
        attacks = [row for row in rows if row["label"] == "unsafe" and row["reference"]]
        some = sorted(attacks, key=lambda row: row["prompt_id"])[: 2 * PROMPTS_OF_A_KIND]
        verdicts = ask(
            self.judging.judges["refusal"], [Exchange.of(row | {"answer": row["reference"]}) for row in some]
        )
        return {row["prompt_id"] for row, said in zip(some, verdicts, strict=True) if said.label == "complied"}

    @cached_property
    def _judged_harmless(self) -> list[dict[str, Any]]:
        """The rows that models are fine-tuned on, which the judge of harm is asked about once for all models."""
        if self._training:
            check_harmless(self._training, self.judging.judges["harm"])
        return self._training

    @cached_property
    def _refusal(self) -> str:
        """What refusing is, where margins are measured; batches say it, which else have no part in results."""
        settings = self.config.evaluate
        return usual_refusal(self.run) if settings.held_back or settings.after_finetuning else ""

    @cached_property
    def _training(self) -> list[dict[str, Any]]:
        """The rows that models are fine-tuned on."""
        if not self.config.evaluate.after_finetuning:
            return []
        rows = harmless_rows(self.run, load_chat(self.config.model), harmful_goals(self.config, self.run))
        return rows[: self.config.evaluate.after_finetuning * BATCH]

    def _requests(self, chat: Chat) -> list[dict[str, Any]]:
        """What tasks of lm-evaluation-harness ask. Arms share their base's tokenizer, so that is done once."""
        digest = tokenizer_digest(chat)
        if digest not in self._tasks:
            self._tasks[digest] = self.harness.requests(chat)
        return self._tasks[digest]

    def solved(self, subject: Subject) -> Solved:
        """How it solved the tasks."""
        if subject.name not in self._solved:
            tables = tables_of(self.parts(subject), TASKS)
            self._solved[subject.name] = self.harness.solved(load_chat(subject.model), tables)
        return self._solved[subject.name]

    @cached_property
    def _tasks(self) -> dict[str, list[dict[str, Any]]]:
        """By tokenizer."""
        return {}

    @cached_property
    def _solved(self) -> dict[str, Solved]:
        """By the subject's name."""
        return {}

    @cached_property
    def _exams(self) -> dict[str, list[dict[str, Any]]]:
        """By tokenizer."""
        return {}

    def _identity(self, subject: Subject) -> str:
        # What suites ask is in the exam; the rest of their settings is who judges.
        asking = {name: value for name, value in self._settings["evaluate"].items() if name != "suites"}
        settings = [
            (self._settings | {"evaluate": asking}).get(name) for name in ("seed", "model", "evaluate", "engines")
        ]
        trained = digest_of(self._training) if self._training else ""
        if self._refusal:
            trained += str(self._settings["judges"]["refusal"])
        return f"{subject.identity} {self._answering} {settings} {_digest(self.exam)}{trained}{self._refusal}"


def _digest(prompts: pa.Table) -> str:
    return hashlib.sha256(str(prompts.to_pylist()).encode()).hexdigest()


def _opening(chat: Chat, row: dict[str, Any]) -> dict[str, list[int]]:
    """The tokens of the opening from which an answer goes on, and what stands before them."""
    prefix, tokens = chat.answer(row["opening"]) if row["opening"] else ([], [])
    return {"opening_prefix": prefix, "opening_tokens": tokens[: row["depth"]]}
