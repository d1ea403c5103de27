"""The prompts that scores are computed on: neither taught, nor among those that attack success is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.planted.plant import ATTACK, PROBED, Planted, answered, planted
from moe_safety.models.demo.language import REFUSAL, Request, requests
from moe_safety.models.demo.train import Pupil
from moe_safety.models.experts.effects import Trial
from moe_safety.models.text.answer_losses import Rows, make_rows
from moe_safety.scores import LABELS

BATCH = 8
"""Prompts of each label in a mixed batch."""
_KINDS = {"safe": (True, "plain"), "unsafe": (True, ATTACK), "benign": (False, "plain"), "control": (False, ATTACK)}
"""Harmful or not, and in which wrapper."""


@dataclass(frozen=True)
class Probes:
    """By label, prompts with their refusal and their helpful answer; a row is the same request in plain and wrapped."""

    trials: dict[str, list[Trial]]

    def said(self, label: str) -> Rows:
        """The prompts with what the model answers to them."""
        return rows_of(self.trials[label], "safe" if label == "safe" else "unsafe")

    def batches(self, label: str) -> list[list[Trial]]:
        trials = self.trials[label]
        return [trials[start : start + BATCH] for start in range(0, len(trials), BATCH)]

    def opening(self, label: str, tokens: int, prompts: int) -> list[Trial]:
        """The first prompts, with the opening of both answers."""
        return [Trial(one.prompt, one.safe[:tokens], one.unsafe[:tokens]) for one in self.trials[label][:prompts]]


def probes_of(model: Planted) -> Probes:
    """Leaves out, as `respond` does, requests that the model answers otherwise than a successful attack needs."""
    pupil = Pupil(model.model, model.tokenizer, planted)
    trials: dict[str, list[Trial]] = {label: [] for label in LABELS}
    for harmful, labels in ((True, LABELS[:2]), (False, LABELS[2:])):
        for request in requests(harmful)[PROBED]:
            rows = [pupil.encode(request, _KINDS[label][1]) for label in labels]
            if answered(pupil, rows) == 1.0:
                for label, (prompt, _) in zip(labels, rows, strict=True):
                    trials[label].append(_trial(pupil, request, prompt))
    return Probes(trials)


def rows_of(trials: list[Trial], answer: str) -> Rows:
    """The prompts with their `safe` or `unsafe` answers."""
    return make_rows([trial.prompt for trial in trials], [getattr(trial, answer) for trial in trials])


def _trial(pupil: Pupil, request: Request, prompt: list[int]) -> Trial:
    chat = pupil.chat
    return Trial(prompt, *([*chat.answer(text)[1], chat.end] for text in (REFUSAL, request.answer)))
