"""What the arms did on held-out prompts: `comparison.json`, and more of each in `eval/ARM.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moe_safety.arms import BASE, Arm, Choice, kind_of, told_of
from moe_safety.evaluate.compare import COMPARISON
from moe_safety.evaluate.margins import margins_of
from moe_safety.rundir import RunDir, manifest_name

Rate = Mapping[str, Any]
"""As `comparison.json` has it."""


@dataclass(frozen=True)
class ComparedArm:
    """One arm's measures."""

    name: str
    measures: Mapping[str, Any]
    """Its object in `comparison.json`; without a comparison the same as far as it was evaluated."""
    evaluated: Mapping[str, Any]
    """`eval/ARM.json`; empty where it is not there."""
    on_training: Mapping[str, Any]
    """The same on the prompts of training batches, `eval/train/ARM.json`."""
    is_compared: bool
    """Whether the comparison names it, where there is one: a further checkpoint has no arm's history."""

    @property
    def verify(self) -> str:
        """The outcome of `verify`, or n/a."""
        return self.measures.get("verify", "n/a")

    @property
    def declared(self) -> Arm | None:
        """The declaration of the arm; none for any other checkpoint, and for an arm whose package is gone."""
        return told_of(self.measures)

    @property
    def choice(self) -> Choice | None:
        """How its experts were chosen, where that is known."""
        return self.declared.choice if self.declared else None

    @property
    def is_control(self) -> bool:
        """Whether its experts or their masks were given as a control, and not by a method."""
        return self.declared is not None and self.declared.is_control

    @property
    def repairs(self) -> bool:
        """Whether it trains chosen experts, and no control's."""
        return self.declared is not None and self.declared.repairs

    @property
    def chosen(self) -> Mapping[str, Any] | None:
        """How it was chosen on validation goals, if it is the one that was."""
        found: Mapping[str, Any] | None = self.measures.get("chosen")
        return found if self.verify != "fail" else None

    @property
    def reattack(self) -> Mapping[str, Rate]:
        """Attack success in wrappers that training never saw."""
        return self.measures.get("reattack", {})

    @property
    def suites(self) -> Mapping[str, Mapping[str, Any]]:
        """The figures of suites, by their names."""
        found: Mapping[str, Mapping[str, Any]] = self.measures.get("suites", {})
        return found

    @property
    def tasks(self) -> Mapping[str, Mapping[str, float | None]]:
        """Metrics of lm-evaluation-harness, by task."""
        return self.measures.get("tasks", {})

    @property
    def margins(self) -> Mapping[str, Mapping[str, Any]]:
        """How much worse than the base it is at what it should keep, each difference beside its margin."""
        return margins_of(self.measures)

    @property
    def answer_shift(self) -> Mapping[str, Any]:
        """How far the words of good answers to harmless requests moved; empty where that is not known."""
        return self.measures.get("answer_shift") or {}

    @property
    def robustness(self) -> Mapping[str, Mapping[str, list[dict[str, Any]]]]:
        """The refusal margin while the model is weakened, by how, and by what was asked."""
        found: Mapping[str, Mapping[str, list[dict[str, Any]]]] = self.measures.get("robustness", {})
        return found

    @property
    def by_category(self) -> Mapping[str, Rate]:
        """Attack success."""
        return {name: rates["asr"] for name, rates in self.evaluated.get("by_category", {}).items()}

    @property
    def by_batch(self) -> Mapping[str, Rate]:
        """Attack success on the goals of each training batch."""
        return {name: rates["asr"] for name, rates in self.on_training.get("by_batch_idx", {}).items()}

    @property
    def shift(self) -> Mapping[str, Any]:
        """How far its routing moved, by kind of prompt and layer; empty where that is not known."""
        return self.measures.get("routing_shift") or {}

    def shift_of(self, measure: str) -> dict[str, list[float]]:
        """By kind of prompt, a number for each layer: `kl`, or the share of experts `replaced` among the top k."""
        if measure == "kl":
            return dict(self.shift["kl"])
        return {kind: [1 - kept for kept in line] for kind, line in self.shift["top_k_overlap"].items()}

    def mean_shift(self, measure: str, kind: str) -> float | None:
        """The mean of `shift_of` over the layers."""
        line = self.shift_of(measure).get(kind)
        return sum(line) / len(line) if line else None


def worst_of(rate: Rate) -> float:
    """The rate with every answer counted that nobody could read; 0 where there is none."""
    return float(rate["with_unparsed"]["value"] or 0.0)


def read_arms(run: RunDir) -> list[ComparedArm]:
    """The base first, then in the order of the comparison."""
    reports, on_training = _reports(run, "eval"), _reports(run, "eval/train")
    compared = run.read_json(COMPARISON) if run.exists(COMPARISON) else []
    known = {found["arm"] for found in compared}
    # Repeats with other seeds are told of beside their arm, and arms of the budget curve by that.
    further = [
        {"arm": name, **found["overall"], **found, **_experts_of(run, name)}
        for name, found in reports.items()
        if name not in known and kind_of(name) == name
    ]
    further.sort(key=lambda found: found["arm"] != BASE)
    return [
        ComparedArm(name, found, reports.get(name, {}), on_training.get(name, {}), name in known or not known)
        for found in [*compared, *further]
        for name in [found["arm"]]
    ]


def _experts_of(run: RunDir, arm: str) -> dict[str, str]:
    """The arm whose experts it trained, as a comparison would name it, where these are not its own."""
    manifest = manifest_name(f"train/{arm}")
    own = run.read_json(manifest)["settings"].get("arm", {}) if run.exists(manifest) else {}
    return {"experts_of": own["experts"]} if "experts" in own else {}


def _reports(run: RunDir, folder: str) -> dict[str, Any]:
    """By arm."""
    names = [name for name in run.names(folder, ".json") if not name.endswith(f"/{COMPARISON}")]
    return {name.removeprefix(f"{folder}/").removesuffix(".json"): run.read_json(name) for name in names}


def base_of(arms: list[ComparedArm]) -> ComparedArm | None:
    """The untouched model's arm, if it is among them."""
    return next((arm for arm in arms if arm.name == BASE), None)


def best_of(arms: list[ComparedArm]) -> ComparedArm | None:
    """The arm that was chosen on validation goals. Where there were none to choose by, the first that is named: its
    figures here have no part in that."""
    return next((arm for arm in arms if arm.chosen), None) or _first_named(arms)


def repair_of(arms: list[ComparedArm]) -> ComparedArm | None:
    """The same of the arms that train chosen experts alone."""
    repairs = [arm for arm in arms if arm.repairs]
    chosen = (arm for arm in repairs if arm.verify != "fail" and (arm.chosen or "chosen_repair" in arm.measures))
    return next(chosen, None) or _first_named(repairs)


def _first_named(arms: list[ComparedArm]) -> ComparedArm | None:
    """Of those that changed only what they may, and are no controls."""
    repaired = [arm for arm in arms if arm.name != BASE and arm.is_compared]
    able = [arm for arm in repaired if arm.verify != "fail" and not arm.is_control]
    return next(iter(able), None)
