"""A run directory as plain data: everything that the page says, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from moe_safety.arms import BASE
from moe_safety.config import ModelConfig
from moe_safety.evaluate.budgets import CURVE
from moe_safety.evaluate.compare import COMPARISON
from moe_safety.identify import AGREEMENT, OVERLAP, SERVING, Pair
from moe_safety.identify.analysis import BATCH_RISK
from moe_safety.pipeline import EXPERT_EFFECTS, EXPERT_GRADIENTS, PROMPTS, RISK, SELECTION
from moe_safety.report.context.arms import ComparedArm, base_of, best_of, read_arms, repair_of
from moe_safety.report.context.batches import BatchView, read_batch_view
from moe_safety.report.context.examples import Examples, read_examples
from moe_safety.report.context.experts import Identification, read_identification
from moe_safety.report.context.origins import Origins, read_manifests, read_origins
from moe_safety.report.context.overlap import Overlap, read_overlaps
from moe_safety.report.context.sweeps import Swept, is_sweep, read_sweeps, results_of
from moe_safety.report.context.timings import Timings, read_timings
from moe_safety.report.context.training import Trained, read_training
from moe_safety.rundir import RunDir
from moe_safety.scores import LABELS
from moe_safety.train.train import METADATA


@dataclass(frozen=True)
class Context:
    """What is there is filled; a stage that was not run leaves its part empty."""

    model: str
    summaries: dict[str, dict[str, Any]]
    """The figures of every finished stage, by its name."""
    settings: dict[str, dict[str, Any]]
    """What each was run with."""
    identification: Identification | None
    by_batch: BatchView | None
    overlaps: list[Overlap]
    training: list[Trained]
    arms: list[ComparedArm]
    examples: Examples | None
    sweeps: list[Swept]
    timings: Timings
    origins: Origins
    show_text: bool
    outdated: list[str]
    """Results that the comparison does not tell of as they are now."""
    budgets: Mapping[str, Any] | None = None
    """The budget curve, if there is one."""

    @cached_property
    def base(self) -> ComparedArm | None:
        """The untouched model's arm, if it was evaluated."""
        return base_of(self.arms)

    @cached_property
    def best(self) -> ComparedArm | None:
        """The arm that the report is about."""
        return best_of(self.arms)

    @cached_property
    def repair(self) -> ComparedArm | None:
        """The same of the arms that train chosen experts alone; often it is that very arm."""
        return repair_of(self.arms)

    @property
    def named(self) -> tuple[str, list[Pair]]:
        """The experts that the headline names, and what they are: what its arm repairs, or what was selected."""
        for arm in (self.best, self.repair):
            for trained in self.training:
                if arm and trained.name == arm.name and trained.experts:
                    return f"{arm.name} repairs", trained.experts
        if self.identification is None:
            return "", []
        return f"{self.identification.summary['method']} selects", self.identification.chosen

    @property
    def shown_first(self) -> list[str]:
        """The arms whose pictures are not folded away."""
        told = [arm.name for arm in (self.best, self.repair) if arm]
        return told or [arm.name for arm in self.training[:1]]

    @property
    def wrappers(self) -> list[str]:
        """The wrappers of further attacks, none of which stands in a batch."""
        return list(dict.fromkeys(name for arm in self.arms for name in arm.reattack))

    def reattacks(self, wrapper: str) -> list[Mapping[str, Any]]:
        """Attack success in one of them, arm by arm."""
        return [arm.reattack[wrapper] for arm in self.arms if wrapper in arm.reattack]

    @property
    def categories(self) -> list[str]:
        """The categories that any arm has measures of."""
        return sorted({name for arm in self.arms for name in arm.by_category})

    @property
    def batches(self) -> list[str]:
        """Training batches that were examined."""
        return sorted({name for arm in self.arms for name in arm.by_batch}, key=int)

    @property
    def tasks(self) -> list[str]:
        """The tasks that any arm was measured on."""
        return list(dict.fromkeys(name for arm in self.arms for name in arm.tasks))

    @property
    def unread(self) -> bool:
        """Whether a judge could not read some answer."""
        unparsed = [arm.measures.get(name) for arm in self.arms for name in ("unparsed", "unparsed_harm")]
        return any(rate and rate["value"] for rate in unparsed)

    @property
    def harm_is_judged(self) -> bool:
        """Whether attack success is harm, and not any answer."""
        return all("answered" in arm.measures for arm in self.arms)

    @property
    def suites(self) -> list[str]:
        """The suites that were asked."""
        return list(dict.fromkeys(name for arm in self.arms for name in arm.suites))

    def asked(self, suite: str) -> list[ComparedArm]:
        """The arms that it was asked: others may have been evaluated before it was configured."""
        return [arm for arm in self.arms if suite in arm.suites]

    @property
    def tries(self) -> list[str]:
        """The numbers of tries that success within them is known of."""
        return list(dict.fromkeys(k for arm in self.arms for k in arm.measures.get("success_at", {})))

    @property
    def corrected(self) -> list[str]:
        """The rates that were corrected by the errors of their judge."""
        return list(dict.fromkeys(name for arm in self.arms for name in arm.measures.get("corrected", {})))

    @property
    def repeated(self) -> list[ComparedArm]:
        """The arms that were repeated with other seeds."""
        return [arm for arm in self.arms if "repeats" in arm.measures]

    @property
    def identified_again(self) -> list[ComparedArm]:
        """After hardening."""
        return [arm for arm in self.arms if arm.measures.get("identified")]

    @property
    def weighed(self) -> list[ComparedArm]:
        """Whose differences from the base stand beside margins."""
        return [arm for arm in self.arms if arm.margins]

    @property
    def reworded(self) -> list[ComparedArm]:
        """Whose words were compared with the base's in answers to harmless requests."""
        return [arm for arm in self.arms if arm.answer_shift]

    @property
    def held_back(self) -> list[ComparedArm]:
        """Whose refusal margin is known with experts held back."""
        return [arm for arm in self.arms if arm.robustness.get("held_back")]

    @property
    def after_finetuning(self) -> list[ComparedArm]:
        """Whose refusal margin is known after fine-tuning."""
        return [arm for arm in self.arms if arm.robustness.get("after_finetuning")]

    @property
    def shifted(self) -> list[ComparedArm]:
        """Whose routing was compared with the base's."""
        return [arm for arm in self.arms if arm.shift]

    @property
    def kinds(self) -> list[str]:
        """The prompts on which it was."""
        found = set().union(*(arm.shift["kl"] for arm in self.arms if arm.shift))
        return [kind for kind in LABELS if kind in found]

    @property
    def moved(self) -> list[Trained]:
        """Whose change was measured."""
        return [arm for arm in self.training if arm.change]

    @property
    def routers_trained(self) -> bool:
        """Whether any arm had a router phase."""
        return any(curve.phase == "router" for arm in self.training for curve in arm.curves)


def files_read(run: RunDir) -> tuple[str, ...]:
    """The files that the page depends on, but for manifests, which hold the hashes of checkpoints."""
    evaluated = run.names("eval", ".json")
    tables = (
        PROMPTS,
        RISK,
        EXPERT_GRADIENTS,
        EXPERT_EFFECTS,
        SELECTION,
        BATCH_RISK,
        SERVING,
        OVERLAP,
        AGREEMENT,
        COMPARISON,
        CURVE,
    )
    logs = [f"{stage}/{METADATA}" for stage in read_manifests(run) if stage.startswith("train/")]
    answers = [f"{name.removesuffix('.json')}/responses.parquet" for name in evaluated]
    evaluated += run.names("eval/train", ".json")
    swept = [results_of(stage) for stage in read_manifests(run) if is_sweep(stage)]
    return tuple(filter(run.exists, [*tables, COMPARISON, CURVE, *swept, *logs, *evaluated, *answers]))


def read_context(run: RunDir, model: ModelConfig, *, show_text: bool = False) -> Context:
    """Reads whatever stages have left there; `model` is the base, from which changes are measured."""
    manifests = read_manifests(run)
    summaries = {stage: one["summary"] for stage, one in manifests.items()}
    arms = read_arms(run)
    best = best_of(arms)
    return Context(
        model=model.name,
        summaries=summaries,
        settings={stage: one["settings"] for stage, one in manifests.items()},
        identification=read_identification(run, summaries["identify"]) if "identify" in summaries else None,
        by_batch=read_batch_view(run) if "identify" in summaries else None,
        overlaps=read_overlaps(run) if "identify" in summaries else [],
        training=sorted(read_training(run, manifests, model), key=lambda arm: _place(arm, arms)),
        arms=arms,
        examples=read_examples(run, BASE, best.name, show_text=show_text) if best else None,
        sweeps=read_sweeps(run, manifests),
        timings=read_timings(manifests),
        origins=read_origins(manifests),
        show_text=show_text,
        outdated=_outdated(run, manifests.get("compare")),
        budgets=run.read_json(CURVE) if arms and run.exists(CURVE) else None,
    )


def _outdated(run: RunDir, compare: Mapping[str, Any] | None) -> list[str]:
    """What was evaluated, trained or verified again after it was compared."""
    read = compare["inputs"] if compare else {}
    return sorted(name for name, digest in read.items() if not run.exists(name) or run.digest(name) != digest)


def _place(trained: Trained, arms: list[ComparedArm]) -> int:
    """Where the comparison has the arm; after all of it where it does not."""
    names = [arm.name for arm in arms]
    return names.index(trained.name) if trained.name in names else len(names)
