"""Do judges say the same? Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from moe_safety.judges.verdict import Label


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Agreement beyond chance, unparsed being a label like the others. None where there is nothing to compare, or both
    judges give one and the same label throughout."""
    n = len(one)
    here, there = Counter(one), Counter(other)
    by_chance = sum(here[label] * there[label] for label in here)
    if by_chance == n * n:
        return None
    agreed = sum(a == b for a, b in zip(one, other, strict=True))
    return (n * agreed - by_chance) / (n * n - by_chance)


def agreement(votes: Iterable[Sequence[tuple[str, Label]]]) -> dict[str, float | None]:
    """Kappa of each pair of a panel's judges, from the votes on each answer; empty where nobody voted."""
    said: dict[str, list[str]] = {}
    for ballot in votes:
        for name, label in ballot:
            said.setdefault(name, []).append(label)
    return {f"{a} / {b}": cohen_kappa(said[a], said[b]) for a, b in combinations(said, 2)}
