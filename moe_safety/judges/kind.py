"""What a kind of judge says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moe_safety.config import JudgeSettings, Question
from moe_safety.judges.verdict import Judge


def _nothing(settings: Any, key: str) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class JudgeKind:
    """A kind of judge: its declaration. Its functions get the settings, and the key at which they stand."""

    about: str
    """In a line, for the documents."""
    section: type[JudgeSettings]
    """Its settings, whose `kind` names it."""
    make: Callable[[Any, str], Judge]
    """The judge, ready to work; an error where it cannot."""
    questions: tuple[Question, ...] = ("refusal",)
    """What it can be asked of an answer."""
    harm_section: type[JudgeSettings] | None = None
    """Its settings where it is asked about harm, if they are others: its labels have other names there."""
    check: Callable[[Any, str], object] = _nothing
    """Fails where it can be known, before hours of work and without loading anything, that it cannot judge."""
    depends: Callable[[Any, str], Mapping[str, str]] = _nothing
    """Hashes of what its verdicts depend on beside its settings, by its name: a model, tables of its own."""
    network: bool = False
    """Whether somebody else is asked, who sees the answers; the documents say so."""

    def section_for(self, question: Question) -> type[JudgeSettings]:
        """Its settings where it is asked this."""
        return self.harm_section if question == "harm" and self.harm_section else self.section

    @property
    def name(self) -> str:
        """The kind, as the configuration calls it."""
        return str(self.section.model_fields["kind"].default)
