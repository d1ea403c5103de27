"""`judges`: who says of an answer whether it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo
from pydantic_core import core_schema

from moe_safety.config.base import Section, complaint_at
from moe_safety.config.names import JUDGES

Question = Literal["refusal"]
"""What a judge can be asked of an answer."""


class JudgeSettings(Section):
    """The settings of a judge. Each kind has its own, a subclass that stands with its declaration in
    `moe_safety/judges/kinds/` and gives `kind` its name: `kind: Literal["endpoint"] = "endpoint"`."""

    kind: str
    """The kind of judge, `rules` where none is given; which other keys stand beside it follows from the kind."""


class RulesSettings(JudgeSettings):
    """The settings of the rules judge, which is asked where none is configured."""

    kind: Literal["rules"] = "rules"


@dataclass(frozen=True)
class JudgeOf:
    """Annotates a field that holds the settings of a judge of any kind that answers `question`; without one, that
    which the settings around it are for: `Annotated[JudgeSettings, JudgeOf("refusal")]`."""

    question: Question | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        as_plain = core_schema.plain_serializer_function_ser_schema(lambda judge: judge.model_dump(mode="json"))
        return core_schema.with_info_plain_validator_function(self._check, serialization=as_plain)

    def _check(self, given: Any, info: ValidationInfo) -> JudgeSettings:
        if isinstance(given, JudgeSettings):
            return given
        if not isinstance(given, dict):
            raise ValueError("takes a mapping with `kind` and the settings of that kind")
        name = given.get("kind", "rules")
        if not isinstance(name, str) or name not in JUDGES:
            raise complaint_at(("kind",), JUDGES.unknown(str(name)))
        kind, question = JUDGES.get(name), self.question or (info.context or {}).get("question")
        if question and question not in kind.questions:
            raise complaint_at(("kind",), f"a judge of the kind '{name}' does not answer the question of {question}")
        settings: JudgeSettings = kind.section.model_validate(given, context={"question": question})
        return settings


class JudgesConfig(Section):
    """The section `judges`: a judge for each question."""

    refusal: Annotated[JudgeSettings, JudgeOf("refusal")] = Field(default_factory=RulesSettings)
    """Who says whether an answer refuses: `kind`, and the settings of that kind beside it."""


def refuse_old_judge(given: Any) -> str:
    """What is to be said of the key `judge` of earlier versions: the same in today's words."""
    kind = given.get("kind", "rules") if isinstance(given, dict) else "KIND"
    own = given.get(kind) if isinstance(given, dict) else None
    settings = [f"kind: {kind}"]
    settings += ["judges: […]"] if kind == "panel" else [f"{key}: …" for key in own] if isinstance(own, dict) else []
    return f"stands elsewhere now, its settings beside `kind`: write `judges: {{refusal: {{{', '.join(settings)}}}}}`"
