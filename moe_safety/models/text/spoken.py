"""What a model says to a prompt, token by token: where its thinking ends and its answer begins, what is written for it,
and when it is done. One way for every engine."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import Answer, Limits

_BLANKS = 2


class Rules:
    """What ends an answer of this model, how long it may be, and what is written where thinking uses up its budget."""

    def __init__(self, model: PreTrainedModel, chat: Chat, limits: Limits) -> None:
        self.chat, self.limits = chat, limits
        self.thinks = bool(chat.tokenizer.chat_template and chat.frame.mark)
        """Whether something may stand before an answer."""
        self.ends = _ends(model, chat)
        inside = set(chat.closes) if self.thinks else set()
        self.final = [end for end in self.ends if end not in inside]
        """Of these, the ones that cannot stand inside of thinking."""
        self.most = limits.answer
        """The most tokens that are said."""
        if self.thinks:
            self.most += limits.thinking + max(len(chat.closes), len(chat.prefix))
            self.mark = chat.tokenizer(chat.frame.mark, add_special_tokens=False).input_ids
            # Without a budget, what is written is what the template writes where nothing was thought.
            self.closing = chat.closes if limits.thinking else chat.prefix

    def cut(self, said: Sequence[int]) -> Answer:
        """The answer in what was said, which may go on behind its end."""
        said = list(said)
        if not self.thinks:
            answer = _until(said, self.ends)
            return Answer([], answer, len(answer) < len(said))
        whole = _until(said, self.final)
        prefix, rest = self.chat.split(whole)
        answer = _until(rest, self.ends)
        ended = len(answer) < len(rest) or len(whole) < len(said)
        return Answer(prefix, answer[: self.limits.answer], ended and len(answer) <= self.limits.answer)


class Spoken:
    """What was said to one prompt so far."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.tokens: list[int] = []
        self.answer_from: int | None = None if rules.thinks else 0
        """How many tokens stand before its answer; nothing while it thinks."""

    @property
    def forced(self) -> int | None:
        """The token that is written next in place of what the model would say: where its budget is used up, thinking
        is closed, so that it still answers."""
        if self.answer_from is not None or self.unwatched:
            return None
        closing = self.rules.closing[len(self.tokens) - self.rules.limits.thinking :]
        return closing[0] if closing and (not self.tokens or self._thinks) else None

    @property
    def unwatched(self) -> int:
        """How many more tokens it says before one may be written for it."""
        return max(0, self.rules.limits.thinking - len(self.tokens)) if self.answer_from is None else self.rules.most

    def add(self, token: int) -> bool:
        """Takes the next token; whether it was the last."""
        self.tokens.append(token)
        said, rules = len(self.tokens), self.rules
        if token in rules.final or said >= rules.most:
            return True
        if not rules.thinks:
            return False
        if self.answer_from is None:
            if not self._thinks:
                self.answer_from = 0
            elif self.tokens[-len(rules.mark) :] == rules.mark:
                self.answer_from = said
        if self.answer_from is None:
            return False
        # Blanks behind the mark are no part of the answer, so a little more is said than is kept.
        length = said - self.answer_from
        return length >= rules.limits.answer + _BLANKS or (length > 0 and token in rules.ends)

    @property
    def _thinks(self) -> bool:
        """Whether what begins so is not yet the answer."""
        return self.rules.chat.opening in (None, self.tokens[0])


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def _ends(model: PreTrainedModel, chat: Chat) -> list[int]:
    known = model.generation_config.eos_token_id if model.generation_config else None
    listed = known if isinstance(known, list) else [known]
    turn = chat.end if chat.tokenizer.chat_template else None
    return sorted({token for token in [*listed, chat.tokenizer.eos_token_id, turn] if token is not None})
