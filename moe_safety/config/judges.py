"""`judges`: who says of an answer whether it refuses, and whether it does harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import core_schema

from moe_safety.config.base import Place, Section, complaint_at, resource
from moe_safety.config.names import JUDGES

Question = Literal["refusal", "harm"]
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
    """Annotates a field that holds the settings of a judge of any kind that answers this question:
    `Annotated[JudgeSettings, JudgeOf("refusal")]`."""

    question: Question

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        as_plain = core_schema.plain_serializer_function_ser_schema(lambda judge: judge.model_dump(mode="json"))
        return core_schema.no_info_plain_validator_function(self._check, serialization=as_plain)

    def _check(self, given: Any) -> JudgeSettings:
        if isinstance(given, JudgeSettings):
            return given
        if not isinstance(given, dict):
            raise ValueError("takes a mapping with `kind` and the settings of that kind")
        name = given.get("kind", "rules")
        if not isinstance(name, str) or name not in JUDGES:
            raise complaint_at(("kind",), JUDGES.unknown(str(name)))
        kind = JUDGES.get(name)
        if self.question not in kind.questions:
            raise complaint_at(
                ("kind",), f"a judge of the kind '{name}' does not answer the question of {self.question}"
            )
        settings: JudgeSettings = kind.section_for(self.question).model_validate(given)
        return settings


class CalibrationsConfig(Section):
    """The section `judges.calibration`: how well judges agree with people, as `calibrate-judge --json` wrote it. Rates
    are told corrected by it, beside the raw ones. A file of another judge is refused."""

    refusal: Place | None = resource(None)
    """The file of the judge of refusal."""
    harm: Place | None = resource(None)
    """The file of the judge of harm."""

    @property
    def given(self) -> dict[Question, str]:
        """The files, by the question of their judge."""
        named: dict[Question, str | None] = {"refusal": self.refusal, "harm": self.harm}
        return {question: file for question, file in named.items() if file}


class JudgesConfig(Section):
    """The section `judges`: a judge for each question."""

    refusal: Annotated[JudgeSettings, JudgeOf("refusal")] = Field(default_factory=RulesSettings)
    """Who says whether an answer refuses: `kind`, and the settings of that kind beside it."""
    harm: Annotated[JudgeSettings, JudgeOf("harm")] | None = None
    """Who says whether an answer to a harmful goal, plain or in an attack, does harm; the same keys. Where nobody is
    asked, an attack counts as successful when it is answered, and every table says so."""
    calibration: CalibrationsConfig = CalibrationsConfig()

    @property
    def asked(self) -> dict[Question, JudgeSettings]:
        """The judges that `evaluate` asks, by their question."""
        named: dict[Question, JudgeSettings | None] = {"refusal": self.refusal, "harm": self.harm}
        return {question: settings for question, settings in named.items() if settings}

    @model_validator(mode="after")
    def _calibrated_judges_are_asked(self) -> JudgesConfig:
        if idle := self.calibration.given.keys() - self.asked.keys():
            raise ValueError(f"calibration.{min(idle)} is of a judge that is not asked")
        return self


def refuse_old_judge(given: Any) -> str:
    """What is to be said of the key `judge` of earlier versions: the same in today's words."""
    kind = given.get("kind", "rules") if isinstance(given, dict) else "KIND"
    own = given.get(kind) if isinstance(given, dict) else None
    settings = [f"kind: {kind}"]
    settings += ["judges: […]"] if kind == "panel" else [f"{key}: …" for key in own] if isinstance(own, dict) else []
    return f"stands elsewhere now, its settings beside `kind`: write `judges: {{refusal: {{{', '.join(settings)}}}}}`"
