"""Examines several subjects with one pool of actors, and judges what they said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import pyarrow as pa

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, results_only
from moe_safety.evaluate.harness import check_harness
from moe_safety.evaluate.plan import ANSWERS, items_of, write_exam
from moe_safety.evaluate.prompts import EXAM_SCHEMA, read_exam
from moe_safety.evaluate.reidentify import by_routing, recapture_job, reidentify, selection_of_base
from moe_safety.evaluate.subjects import Subject, base_subject
from moe_safety.identify.files import RISK
from moe_safety.identify.places import PROMPTS
from moe_safety.jobs import Job, Parts, Plan, run_jobs
from moe_safety.judges import Exchange, Judge, ask, check_judge, judge_inputs, make_judge
from moe_safety.models.load import load_tokenizer, skeleton_of
from moe_safety.rundir import RunDir, Stage

RESPONSES_SCHEMA = pa.schema(
    [
        *(field for field in EXAM_SCHEMA if field.name != "messages"),
        ("answer", pa.string()),
        ("answer_tokens", pa.int32()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("votes", pa.map_(pa.string(), pa.string())),
    ]
)


@dataclass
class Session:
    """One examination: the same prompts, settings and judge for every subject."""

    config: Config
    run: RunDir

    @cached_property
    def exam(self) -> pa.Table:
        return read_exam(self.config, self.run)

    @cached_property
    def judge(self) -> Judge:
        return make_judge(self.config.judge)

    @property
    def root(self) -> str:
        """Where results go: those on other splits have a folder of their own."""
        split = self.config.evaluate.split
        return "eval" if split == "test" else f"eval/{split}"

    def folder(self, subject: Subject) -> str:
        return f"{self.root}/{subject.name}"

    def stage(self, subject: Subject, reads: Sequence[str] = ()) -> Stage:
        """What decides a subject's results."""
        anew = self._is_identified(subject)
        batches = (BATCHES,) if anew or self.config.evaluate.split == "train" else ()
        return Stage(
            self.folder(subject).replace("eval", "evaluate", 1),
            settings=self._settings | (self._identifying if anew else {}),
            reads=(PROMPTS, *batches, *((RISK, self._before) if anew else ()), *reads),
            others=subject.identity | self._others | self._reattacks,
            folder=self.folder(subject),
            keyed=self._answers(subject),
        )

    def parts(self, subject: Subject) -> Parts:
        folder = self.folder(subject)
        return Parts(self.run, self._answers(subject), Plan(self.run, f"plans/{folder.replace('/', '.')}.parquet"))

    def _answers(self, subject: Subject) -> str:
        return f"{self.folder(subject)}/_parts"

    def examine(self, subjects: Sequence[Subject]) -> None:
        """Leaves the parts of all of them; what is there already is not done again."""
        check_judge(self.config.judge)
        jobs = [self._job(subject) for subject in subjects]
        again = [subject for subject in subjects if self._is_identified(subject)]
        jobs += [recapture_job(self.config, self.run, subject, self._anew(subject)) for subject in again]
        run_jobs(jobs, "evaluate")

    def responses(self, subject: Subject) -> pa.Table:
        """The prompts with the subject's answers and their verdicts, in the order of the exam."""
        parts = self.parts(subject)
        tables = [self.run.read_table(parts.table_name(item)) for item in items_of(parts.plan, ANSWERS)]
        answers = {row["prompt_id"]: row for table in tables for row in table.to_pylist()}
        rows = [row | answers[row["prompt_id"]] for row in self.exam.to_pylist()]
        verdicts = ask(self.judge, [Exchange.of(row) for row in rows])
        for row, verdict in zip(rows, verdicts, strict=True):
            row |= {"verdict": verdict.label, "reason": verdict.reason, "votes": verdict.votes or None}
        return pa.Table.from_pylist(rows, schema=RESPONSES_SCHEMA)

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
    def _settings(self) -> dict[str, object]:
        settings = results_only(self.config.evaluate)
        # They say which subject is meant.
        named = {name: settings[name] for name in settings if name not in ("model_path", "output_name")}
        model = {"dtype": self.config.model.dtype}
        return {"seed": self.config.seed, "model": model, "evaluate": named, "judge": results_only(self.config.judge)}

    @cached_property
    def _others(self) -> dict[str, str]:
        return judge_inputs(self.config.judge) | check_harness(self.config.evaluate)

    @cached_property
    def _reattacks(self) -> dict[str, str]:
        """A hash of the prompts that further files give, which settings of `data` have a part in."""
        if not self.config.evaluate.reattack:
            return {}
        return {"set of re-attacks": _digest(self.exam.filter(self.exam["reattack"]))}

    def _job(self, subject: Subject) -> Job:
        from moe_safety.evaluate.examiner import Examiner
        from moe_safety.evaluate.shift import can_read

        parts, settings = self.parts(subject), self.config.evaluate
        identity = self._identity(subject)
        if not parts.plan.stands(identity):
            write_exam(
                parts.plan,
                self.exam,
                load_tokenizer(subject.model),
                settings,
                seed=self.config.seed,
                routing=settings.routing_prompts > 0 and can_read(skeleton_of(subject.model)),
                identity=identity,
            )
        return Job(parts.plan, parts, partial(Examiner, subject, settings), settings)

    def _identity(self, subject: Subject) -> str:
        others = {name: digest for name, digest in self._others.items() if name.startswith("task ")}
        settings = [self._settings[name] for name in ("seed", "model", "evaluate")]
        return f"{subject.identity} {others} {settings} {_digest(self.exam)}"


def _digest(prompts: pa.Table) -> str:
    return hashlib.sha256(str(prompts.to_pylist()).encode()).hexdigest()
