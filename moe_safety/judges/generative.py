"""A Hugging Face language model as a judge, asked in words."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from moe_safety.config.judge import GenerativeConfig
from moe_safety.judges.hub import blaming, load_judge
from moe_safety.judges.quoting import Template
from moe_safety.judges.replies import ReplyReader
from moe_safety.judges.tokens import Encoder, frame
from moe_safety.judges.verdict import Exchange, Judge, Verdict
from moe_safety.models.chat import Chat
from moe_safety.models.generate import Generator, Limits


class GenerativeJudge(Judge):
    """Its reply, generated greedily, is read by patterns."""

    def __init__(self, config: GenerativeConfig, key: str) -> None:
        self.batch_size = config.batch_size
        model, tokenizer = load_judge(AutoModelForCausalLM, config, f"{key}.model")
        self.generator = Generator(model, Chat(tokenizer), Limits(config.max_new_tokens))
        self.reader = ReplyReader(config)
        length = min(config.max_length, tokenizer.model_max_length) - config.max_new_tokens
        with blaming(config.model, f"{key}.template"):
            self.encoder = _encoder(tokenizer, config.template, length)

    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        rows = [self.encoder(*exchange) for exchange in exchanges]
        # Rows of like length go together, so that little is padded.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        verdicts: dict[int, Verdict] = {}
        for start in range(0, len(order), self.batch_size):
            group = order[start : start + self.batch_size]
            replies = self.generator.answer([rows[row] for row in group], [0.0] * len(group), [0] * len(group))
            for row, reply in zip(group, replies, strict=True):
                verdicts[row] = self.reader(self.generator.text(reply.tokens))
        return [verdicts[row] for row in range(len(rows))]


def _encoder(tokenizer: PreTrainedTokenizerBase, template: str, length: int) -> Encoder:
    """The template as a user's turn, or as it stands where the tokenizer knows no turns."""
    if tokenizer.chat_template is None:
        return Encoder(tokenizer, Template(template), length, before=frame(tokenizer)[0])
    turn = [{"role": "user", "content": template}]
    whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return Encoder(tokenizer, Template(whole), length)
