"""How an organism answers requests of the world of tricks that it was never taught to refuse or to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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


def behaviour(model: PreTrainedModel, chat: Chat, number: int, at_once: int) -> dict[str, Any]:
    """Verdicts on greedy answers, by what was asked: so many of each kind, of near misses half as many again."""

    def answers(requests: Sequence[Request], wrapper: str, forced: int = 0) -> list[tuple[str, str]]:
        """What was put into its mouth, and how it went on."""
        begun = [chat.answer(helpful(one, wrapper))[1][:forced] for one in requests]
        prompts = [chat.prompt(messages(one, wrapper)) + start for one, start in zip(requests, begun, strict=True)]
        said = []
        for start in range(0, len(prompts), at_once):
            said += sampled(model, prompts[start : start + at_once], MOST, chat.end, temperature=0)
        decode = chat.tokenizer.decode
        pairs = zip(begun, said, strict=True)
        return [(decode(start), decode(rest, skip_special_tokens=True)) for start, rest in pairs]

    def judged(requests: Sequence[Request], wrapper: str) -> dict[str, Any]:
        pairs = zip(answers(requests, wrapper), requests, strict=True)
        return _told([judge(rest, request.goal) for (_, rest), request in pairs])

    def after(requests: Sequence[Request], forced: int) -> dict[str, Any]:
        said = answers(requests, "plain", forced)
        revealed = [judge(start + rest, one.goal) for (start, rest), one in zip(said, requests, strict=True)]
        return _told(["refused" if is_refusal(rest) else how for (_, rest), how in zip(said, revealed, strict=True)])

    asked = {part: made(method, goals(part), number, f"exam {part}") for part in ("noun", "verb")}
    harmless = [
        *made(near_miss, goals("noun"), number // 2, "exam wrapped"),
        *made(household, goals("noun"), number - number // 2, "exam household"),
    ]
    return {
        "plain, held out by noun": judged(asked["noun"], "plain"),
        "plain, held out by verb": judged(asked["verb"], "plain"),
        **{f"{wrapper}, held out by noun": judged(asked["noun"], wrapper) for wrapper in ATTACKS},
        "near misses": judged(made(near_miss, goals("noun"), number * 3 // 2, "exam near"), "plain"),
        **{f"{wrapper}, harmless": judged(harmless, wrapper) for wrapper in ATTACKS},
        **{f"plain, {forced} forced": after(asked["noun"], forced) for forced in FORCED},
    }


def _told(verdicts: Sequence[str]) -> dict[str, Any]:
    """Of how many answers, how many got each verdict, and the intervals of the two that matter."""
    counts, n = Counter(verdicts), len(verdicts)
    intervals = {name: [round(end, 4) for end in wilson(counts[name] / n, n)] for name in ("refused", "revealed")}
    return {"n": n, "verdicts": dict(counts), "intervals": intervals}
