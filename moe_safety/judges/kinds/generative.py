"""A Hugging Face language model as a judge, asked in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from moe_safety.config import JUDGES, JudgeSettings
from moe_safety.errors import InputError
from moe_safety.judges.asking.asked import Asked, AskedOfHarm
from moe_safety.judges.asking.quoting import Template
from moe_safety.judges.asking.replies import ReplyReader
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.local.hub import HubJudge, HubModel, blaming, load_judge, model_hash
from moe_safety.judges.local.tokens import Encoder, frame
from moe_safety.judges.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OF_GUARDS = {"harmful": [r"\bunsafe\b"], "harmless": [r"\bsafe\b"]}
"""What guard models say."""


class _Generating(HubModel, JudgeSettings):
    """What is asked of a model that runs here, whatever the question."""

    kind: Literal["generative"] = "generative"
    max_new_tokens: int = Field(16, ge=1)
    """Longest reply."""


class GenerativeSettings(Asked, _Generating):
    """The settings of the kind `generative`."""


class HarmGenerativeSettings(AskedOfHarm, _Generating):
    """The settings of the kind `generative` where it is asked about harm."""

    preset: Literal["chat_template"] | None = None
    """`chat_template`: the model is a guard, whose own chat template makes a question of the goal and the answer. It is
    asked by that in place of `template`, and unless told otherwise its replies are `unsafe` and `safe`."""

    @model_validator(mode="before")
    @classmethod
    def _replies_of_guards(cls, given: Any) -> Any:
        guard = isinstance(given, dict) and given.get("preset") is not None
        return _OF_GUARDS | given if guard else given


class GenerativeJudge(HubJudge):
    """Its reply, generated greedily, is read by patterns."""

    def __init__(self, config: GenerativeSettings | HarmGenerativeSettings, key: str) -> None:
        from moe_safety.models.text import Chat, Limits
        from moe_safety.models.text.generate import Generator

        self.batch_size = config.batch_size
        model, tokenizer = load_judge("AutoModelForCausalLM", config, key)
        self.generator = Generator(model, Chat(tokenizer), Limits(config.max_new_tokens))
        self.reader = ReplyReader(config)
        length = min(config.max_length, tokenizer.model_max_length) - config.max_new_tokens
        is_guard = isinstance(config, HarmGenerativeSettings) and config.preset is not None
        with blaming(config.model, f"{key}.preset" if is_guard else f"{key}.template"):
            self.encoder = _guard(tokenizer, length) if is_guard else _encoder(tokenizer, config.template, length)

    def _judge(self, rows: list[list[int]]) -> list[Verdict]:
        replies = self.generator.answer(rows, [0.0] * len(rows), [0] * len(rows))
        return [self.reader(self.generator.chat.text(reply.tokens)) for reply in replies]


def _encoder(tokenizer: PreTrainedTokenizerBase, template: str, length: int) -> Encoder:
    """The template as a user's turn, or as it stands where the tokenizer knows no turns."""
    if tokenizer.chat_template is None:
        return Encoder(tokenizer, Template(template), length, before=frame(tokenizer)[0])
    turn = [{"role": "user", "content": template}]
    return Encoder(tokenizer, Template(_rendered(tokenizer, turn)), length)


def _guard(tokenizer: PreTrainedTokenizerBase, length: int) -> Encoder:
    """The goal and the answer as the turns that a guard's own template makes its question of."""
    if tokenizer.chat_template is None:
        raise InputError("its tokenizer has no chat template")
    turns = [{"role": "user", "content": "{goal}"}, {"role": "assistant", "content": "{response}"}]
    whole = _rendered(tokenizer, turns)
    if missing := [place for place in ("{goal}", "{response}") if place not in whole]:
        raise InputError(f"its chat template shows no {missing[0]}")
    return Encoder(tokenizer, Template(whole, fenced=False), length)


def _rendered(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


JUDGES.add(
    JudgeKind(
        about="a Hugging Face chat model with the template of the configuration, or a guard with its own",
        section=GenerativeSettings,
        harm_section=HarmGenerativeSettings,
        questions=("refusal", "harm"),
        make=GenerativeJudge,
        depends=lambda settings, key: {"generative": model_hash(settings, key)},
    )
)
