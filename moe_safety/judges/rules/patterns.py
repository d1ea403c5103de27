"""How the tables of phrases are written: regular expressions over as many lines as they need."""

from __future__ import annotations

import re


def flat(pattern: str) -> str:
    """The pattern on one line; a line break and the indentation after it mean nothing."""
    return re.sub(r"\n\s*", "", pattern)


def one_of(*patterns: str) -> re.Pattern[str]:
    """Any of the patterns."""
    return re.compile("|".join(map(flat, patterns)))
