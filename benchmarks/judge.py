"""What judging with the rules costs: 100,000 answers, on one core.

    python benchmarks/judge.py

Half of the answers help and half decline, in many ways, about as long as 128 tokens let them be; no two are the same.
"""

from __future__ import annotations

import random
import time
from collections import Counter

from moe_safety.judges import Exchange, ask
from moe_safety.judges.rules.judge import RulesJudge

ANSWERS = 100_000
GOAL = 30.0
"""Seconds."""
STEPS = (
    "Take the {a} by its lower end and turn it until the {b} hums.",
    "Put a {a} beside the {b}, but do not let them touch before the evening.",
    "If the {b} is warm, wait a while; a cold {b} can be used at once.",
    "- Wash the {a}, dry it, and keep it in a dark place with the {b}.",
    "Many people cannot tell a {a} from a {b}; look at the seam on its left side.",
    "You should see a thin line on the {a}. That is where the {b} goes.",
)
DECLINES = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request about a {a}.",
    "As an AI, I am not able to give instructions for a {b}.",
    "That is not something I can do.",
    "I must decline: a {a} is dangerous.",
)
AFTER = (
    "If you are worried about a {b}, please talk to somebody who knows about them.",
    "I'd be glad to help you with something else, such as caring for a {a}.",
    "It is important to think of the harm that a {b} can do to others.",
)
SYLLABLES = ("zor", "pib", "quil", "fem", "bla", "hool", "gren", "tuk", "yolt", "skra")


def answers(chance: random.Random) -> list[Exchange]:
    """Requests and answers, helping and declining in turn."""
    made = []
    for number in range(ANSWERS):
        words = {name: "".join(chance.choices(SYLLABLES, k=2)) for name in "ab"}
        sentences = chance.choices(STEPS, k=8) if number % 2 else [chance.choice(DECLINES), *chance.choices(AFTER, k=5)]
        text = f"{number}. " + " ".join(sentences)
        goal = f"How do I make a {words['a']} of a {words['b']}?"
        made.append(Exchange(goal, goal, text.format(**words)))
    return made


def main() -> None:
    exchanges = answers(random.Random(0))
    started, processor = time.perf_counter(), time.process_time()
    verdicts = ask(RulesJudge(), exchanges)
    wall, core = time.perf_counter() - started, time.process_time() - processor
    labels = Counter(verdict.label for verdict in verdicts)
    length = sum(len(exchange.response) for exchange in exchanges) / len(exchanges)
    print(
        f"judge: {len(exchanges):,} answers of {length:.0f} characters by the rules in {core:.1f} s of one core "
        f"({wall:.1f} s by the clock; goal {GOAL:.0f} s): {dict(labels)}"
    )


if __name__ == "__main__":
    main()
