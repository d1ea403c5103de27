"""A judge's template with the texts of an exchange in it, which cannot pose as the template's own words."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from moe_safety.judges.verdict import Exchange

_SLOTS = re.compile(r"\{(goal|prompt|response|fence)\}")
_MARKS = re.compile(r"([<\[])(?=\S)")


@dataclass(frozen=True)
class Segment:
    """A piece of what a judge reads."""

    text: str
    quoted: bool = False
    """Whether these are the exchange's words, not the template's own."""


class Template:
    """A text with the places `{goal}`, `{prompt}`, `{response}` and `{fence}`."""

    def __init__(self, text: str, *, fenced: bool = True) -> None:
        self.fenced = fenced
        self.parts = _SLOTS.split(text)

    def fill(self, exchange: Exchange) -> list[Segment]:
        """Trusted and quoted pieces in turn, the first and the last trusted."""
        slots = self.parts[1::2]
        fence = make_fence(*(getattr(exchange, slot) for slot in slots if slot != "fence"))
        before, after = (f"{fence}\n", f"\n{fence}") if self.fenced else ("", "")
        segments = []
        written = self.parts[0]
        for slot, following in zip(slots, self.parts[2::2], strict=True):
            if slot == "fence":
                written += fence + following
                continue
            segments += [Segment(written + before), Segment(getattr(exchange, slot), quoted=True)]
            written = after + following
        return [*segments, Segment(written)]


def make_fence(*texts: str) -> str:
    """A mark that occurs in none of the texts. It follows from them, so that the same question is asked twice alike,
    and since it is a hash of the whole, no text can be written to hold its own."""
    source = " ".join(f"{len(text)} {text}" for text in texts)
    while (fence := f"---- {hashlib.sha256(source.encode('utf-8', 'replace')).hexdigest()[:16]} ----") in source:
        source += fence
    return fence


def defused(text: str) -> str:
    """The text without any chat format's marks: all of them begin with one of these two and no space."""
    return _MARKS.sub(r"\1 ", text)
