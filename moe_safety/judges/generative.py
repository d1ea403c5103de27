"""A Hugging Face language model as a judge, asked in words."""

from __future__ import annotations

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from moe_safety.config.judge import GenerativeConfig
from moe_safety.judges.hub import HubJudge, blaming, load_judge
from moe_safety.judges.quoting import Template
from moe_safety.judges.replies import ReplyReader
from moe_safety.judges.tokens import Encoder, frame
from moe_safety.judges.verdict import Verdict
from moe_safety.models.chat import Chat
from moe_safety.models.encode import Limits
from moe_safety.models.generate import Generator


class GenerativeJudge(HubJudge):
    """Its reply, generated greedily, is read by patterns."""

    def __init__(self, config: GenerativeConfig, key: str) -> None:
        self.batch_size = config.batch_size
        model, tokenizer = load_judge(AutoModelForCausalLM, config, f"{key}.model")
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
