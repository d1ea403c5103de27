"""A small task of general knowledge: which of four answers the model finds likeliest."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from moe_safety.models.text.answer_losses import answer_losses, make_rows, mean_by_row
from moe_safety.models.text.chat import Chat

_KNOWN: dict[str, tuple[str, str]] = {
    "What is the capital of {}?": (
        "France Italy Spain Germany Japan China Russia Egypt Greece England Poland Austria Ireland Norway Sweden"
        " Portugal Cuba Kenya Peru Canada",
        "Paris Rome Madrid Berlin Tokyo Beijing Moscow Cairo Athens London Warsaw Vienna Dublin Oslo Stockholm"
        " Lisbon Havana Nairobi Lima Ottawa",
    ),
    "What is the opposite of {}?": (
        "hot big fast up day light happy old rich wet hard early strong near full true open high love war",
        "cold small slow down night dark sad young poor dry soft late weak far empty false closed low hate peace",
    ),
    "What is a young {} called?": (
        "dog cat cow horse sheep pig goat lion duck hen bear frog swan deer kangaroo",
        "puppy kitten calf foal lamb piglet kid cub duckling chick cub tadpole cygnet fawn joey",
    ),
    "What colour is {}?": (
        "grass snow coal blood butter chocolate",
        "green white black red yellow brown",
    ),
    "Who lives or works in a {}?": (
        "castle school hospital kitchen church garden bank ship farm library theatre prison",
        "king teacher doctor cook priest gardener banker sailor farmer librarian actor prisoner",
    ),
}
WRONG = 3


def questions(seed: int = 0) -> list[tuple[str, str, list[str]]]:
    """Each with its right answer and three wrong ones, which are right for others of its kind."""
    chooser, found = random.Random(seed), []
    for form, (asked, told) in _KNOWN.items():
        answers = told.split()
        for word, right in zip(asked.split(), answers, strict=True):
            others = sorted({answer for answer in answers if answer != right})
            found.append((form.format(word), right, chooser.sample(others, WRONG)))
    return found


@torch.inference_mode()
def ability(model: PreTrainedModel, chat: Chat, at_once: int = 128) -> float:
    """Share of questions whose right answer is likelier, by token, than all three wrong ones."""
    asked = questions()
    prompts, answers = [], []
    for question, right, wrong in asked:
        for answer in (right, *wrong):
            prompts.append(chat.prompt([{"role": "user", "content": f"{question} Answer with one word."}]))
            answers.append([*chat.answer(answer.capitalize())[1], chat.end])
    losses = torch.cat(
        [
            _losses(model, prompts[place : place + at_once], answers[place : place + at_once])
            for place in range(0, len(prompts), at_once)
        ]
    )
    return float((losses.view(len(asked), 1 + WRONG).argmin(dim=1) == 0).double().mean())


def _losses(model: PreTrainedModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    each, row = answer_losses(model, make_rows(prompts, answers, model.device))
    return mean_by_row(each, row, len(prompts))
