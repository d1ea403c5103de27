"""A Hugging Face language model as a judge, asked in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from moe_safety.config import JUDGES, JudgeSettings
from moe_safety.judges.asking.asked import Asked
from moe_safety.judges.asking.quoting import Template
from moe_safety.judges.asking.replies import ReplyReader
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.local.hub import HubJudge, HubModel, blaming, load_judge, model_hash
from moe_safety.judges.local.tokens import Encoder, frame
from moe_safety.judges.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class GenerativeSettings(HubModel, Asked, JudgeSettings):
    """The settings of the kind `generative`."""

    kind: Literal["generative"] = "generative"
    max_new_tokens: int = Field(16, ge=1)
    """Longest reply."""


class GenerativeJudge(HubJudge):
    """Its reply, generated greedily, is read by patterns."""

    def __init__(self, config: GenerativeSettings, key: str) -> None:
        from moe_safety.models.text import Chat, Limits
        from moe_safety.models.text.generate import Generator

        self.batch_size = config.batch_size
        model, tokenizer = load_judge("AutoModelForCausalLM", config, key)
        self.generator = Generator(model, Chat(tokenizer), Limits(config.max_new_tokens))
        self.reader = ReplyReader(config)
        length = min(config.max_length, tokenizer.model_max_length) - config.max_new_tokens
        with blaming(config.model, f"{key}.template"):
            self.encoder = _encoder(tokenizer, config.template, length)

    def _judge(self, rows: list[list[int]]) -> list[Verdict]:
        replies = self.generator.answer(rows, [0.0] * len(rows), [0] * len(rows))
        return [self.reader(self.generator.chat.text(reply.tokens)) for reply in replies]


def _encoder(tokenizer: PreTrainedTokenizerBase, template: str, length: int) -> Encoder:
    """The template as a user's turn, or as it stands where the tokenizer knows no turns."""
    if tokenizer.chat_template is None:
        return Encoder(tokenizer, Template(template), length, before=frame(tokenizer)[0])
    turn = [{"role": "user", "content": template}]
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return Encoder(tokenizer, Template(whole), length)


JUDGES.add(
    JudgeKind(
        about="a Hugging Face chat model with the template of the configuration",
        section=GenerativeSettings,
        make=GenerativeJudge,
        depends=lambda settings, key: {"generative": model_hash(settings, key)},
    )
)
