"""A judge's template with the two texts in it, which cannot pose as the template's own words."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

_SLOTS = re.compile(r"\{(prompt|response|fence)\}")
_MARKS = re.compile(r"([<\[])(?=\S)")


@dataclass(frozen=True)
class Segment:
    """A piece of what a judge reads."""

    text: str
    quotes: Literal["prompt", "response"] | None = None
    """Whose words these are; the template's unless given."""


class Template:
    """A text with the places `{prompt}`, `{response}` and `{fence}`."""

    def __init__(self, text: str, *, fenced: bool = True) -> None:
        self.fenced = fenced
        self.parts = _SLOTS.split(text)

    def fill(self, prompt: str, response: str) -> list[Segment]:
        """Trusted and quoted pieces in turn, the first and the last trusted."""
        fence = make_fence(prompt, response)
        before, after = (f"{fence}\n", f"\n{fence}") if self.fenced else ("", "")
        segments = []
        written = self.parts[0]
        for slot, following in zip(self.parts[1::2], self.parts[2::2], strict=True):
            if slot == "fence":
                written += fence + following
                continue
            quoted = Segment(prompt, "prompt") if slot == "prompt" else Segment(response, "response")
            segments += [Segment(written + before), quoted]
            written = after + following
        return [*segments, Segment(written)]


def make_fence(prompt: str, response: str) -> str:
    """A mark that occurs in neither text. It follows from them, so that the same question is asked twice alike, and
    since it is a hash of the whole, no text can be written to hold its own."""
    source = f"{len(prompt)} {prompt} {response}"
    while (fence := f"---- {hashlib.sha256(source.encode('utf-8', 'replace')).hexdigest()[:16]} ----") in source:
        source += fence
    return fence


def defused(text: str) -> str:
    """The text without any chat format's marks: all of them begin with one of these two and no space."""
    return _MARKS.sub(r"\1 ", text)
