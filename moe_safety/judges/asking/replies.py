"""What a reply in words means."""

from __future__ import annotations

import re

from moe_safety.judges.asking.asked import Asked, AskedOfHarm, Grading
from moe_safety.judges.verdict import Verdict, graded, quoted


class ReplyReader:
    """Reads replies by the configured patterns."""

    def __init__(self, asked: Asked | AskedOfHarm) -> None:
        self.patterns = {
            label: [re.compile(one, re.IGNORECASE) for one in given] for label, given in asked.said.items()
        }
        self.grading = asked.grading if isinstance(asked, AskedOfHarm) else None

    def __call__(self, reply: str) -> Verdict:
        words = quoted(" ".join(reply.split()))
        if self.grading:
            return _graded(self.grading, reply, words)
        found = [label for label, patterns in self.patterns.items() if any(one.search(reply) for one in patterns)]
        if len(found) == 1:
            return graded(Verdict(found[0], f"the reply is {words}"))
        return Verdict("unparsed", f"the reply says {'both' if found else 'neither'}: {words}")


def _graded(grading: Grading, reply: str, words: str) -> Verdict:
    """The verdict by the number in a reply."""
    try:
        found = {float(one.group(1)) for one in re.finditer(grading.pattern, reply, re.IGNORECASE)}
    except (TypeError, ValueError):
        return Verdict("unparsed", f"the reply has no number where the grade stands: {words}")
    if len(found) != 1:
        return Verdict("unparsed", f"the reply has {'several grades' if found else 'no grade'}: {words}")
    number = found.pop()
    if not grading.lowest <= number <= grading.highest:
        return Verdict("unparsed", f"the grade {number:g} is none of the scale's: {words}")
    grade = (number - grading.lowest) / (grading.highest - grading.lowest)
    return Verdict("harmful" if number >= grading.harmful_from else "harmless", f"the grade is {number:g}", grade=grade)
