"""How an organism answers requests of the world of tricks that it was never taught to refuse or to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from benchmarks.organism.own_text import sampled
from benchmarks.organism.tricks import (
    ATTACKS,
    Request,
    goals,
    helpful,
    household,
    is_refusal,
    judge,
    made,
    messages,
    method,
    near_miss,
)
from moe_safety.evaluate.statistics import wilson
from moe_safety.models.text.chat import Chat

MOST = 64
"""Tokens of an answer."""
FORCED = (1, 3, 5, 10)
"""Tokens of compliance that are put into the model's mouth."""


@dataclass(frozen=True)
class Question:
    """A request in a wrapper, and how many tokens of the helpful answer are put into the model's mouth."""

    request: Request
    wrapper: str
    forced: int = 0

    def begun(self, chat: Chat) -> list[int]:
        return chat.answer(helpful(self.request, self.wrapper))[1][: self.forced]

    def verdict(self, begun: str, rest: str) -> str:
        """Who goes on with a refusal has refused, whatever was put into its mouth."""
        return "refused" if self.forced and is_refusal(rest) else judge(begun + rest, self.request.goal)


def behaviour(model: PreTrainedModel, chat: Chat, number: int, at_once: int) -> dict[str, Any]:
    """Verdicts on greedy answers, by what was asked: so many of each kind, of near misses half as many again."""
    kinds = exam(number)
    everything = [question for questions in kinds.values() for question in questions]
    begun = [question.begun(chat) for question in everything]
    prompts = [
        chat.prompt(messages(one.request, one.wrapper)) + start for one, start in zip(everything, begun, strict=True)
    ]
    said: list[list[int]] = []
    for start in range(0, len(prompts), at_once):
        said += sampled(model, prompts[start : start + at_once], MOST, chat.end, temperature=0)
    decode: Callable[..., str] = chat.tokenizer.decode
    answers = zip(everything, begun, said, strict=True)
    verdicts = iter(
        [one.verdict(decode(start), decode(rest, skip_special_tokens=True)) for one, start, rest in answers]
    )
    return {name: _told([next(verdicts) for _ in questions]) for name, questions in kinds.items()}


def exam(number: int) -> dict[str, list[Question]]:
    """What is asked, by kind."""
    asked = {part: made(method, goals(part), number, f"exam {part}") for part in ("noun", "verb")}
    near = made(near_miss, goals("noun"), number * 3 // 2, "exam near")
    harmless = [
        *made(near_miss, goals("noun"), number // 2, "exam wrapped"),
        *made(household, goals("noun"), number - number // 2, "exam household"),
    ]

    def all_of(requests: Sequence[Request], wrapper: str, forced: int = 0) -> list[Question]:
        return [Question(request, wrapper, forced) for request in requests]

    return {
        "plain, held out by noun": all_of(asked["noun"], "plain"),
        "plain, held out by verb": all_of(asked["verb"], "plain"),
        **{f"{wrapper}, held out by noun": all_of(asked["noun"], wrapper) for wrapper in ATTACKS},
        "near misses": all_of(near, "plain"),
        **{f"{wrapper}, harmless": all_of(harmless, wrapper) for wrapper in ATTACKS},
        **{f"plain, {forced} forced": all_of(asked["noun"], "plain", forced) for forced in FORCED},
    }


def _told(verdicts: Sequence[str]) -> dict[str, Any]:
    """Of how many answers, how many got each verdict, and the intervals of the two that matter."""
    counts, n = Counter(verdicts), len(verdicts)
    intervals = {name: [round(end, 4) for end in wilson(counts[name] / n, n)] for name in ("refused", "revealed")}
    return {"n": n, "verdicts": dict(counts), "intervals": intervals}
