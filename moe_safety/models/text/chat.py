"""A chat template: what a model sees of messages, and what it writes around an answer.

Between the prompt and an answer many templates write something: an empty thinking block, the header of a channel. It is
found by rendering a turn whose text is known, so that answers are counted and learned in the form that they have in
use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from moe_safety.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]

# Invented words, which no template has of its own.
_QUESTION, _ANSWER, _THOUGHT = "quorvelim", "zanvothar", "brimmelduk"


@dataclass(frozen=True)
class Frame:
    """What stands around an answer."""

    tail: str
    """What a prompt ends with, after the user's last words."""
    prefix: str
    """What stands between the prompt and an answer that was not thought about."""
    end: str
    """What follows an answer."""
    opens: str | None
    """What thinking begins with; nothing where the template knows of none."""
    closes: str
    """What stands between thinking and the answer."""

    @property
    def mark(self) -> str:
        """The last of what is written before an answer: what follows it is the answer."""
        return next(reversed((self.prefix.strip() or self.closes).split()), "")


class Chat:
    """A tokenizer with its chat template and the settings of that."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.settings = tokenizer, dict(settings or {})

    def prompt(self, messages: Messages) -> list[int]:
        """The tokens of the whole prompt, up to the place where the model goes on."""
        return self._tokens(self.render(messages))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text. Several at once are spread over the processors of this machine."""
        several = [text for text in texts if text]
        made = iter(self.tokenizer(several, add_special_tokens=False).input_ids if several else ())
        return [next(made) if text else [] for text in texts]

    def answer(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens that stand before an answer, and those of its text, without the end of the turn."""
        return self.answers([text])[0]

    def answers(self, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """The same of several."""
        return list(map(self._split_prefix, self._after_prompt([self.frame.prefix + text for text in texts])))

    def _split_prefix(self, whole: list[int]) -> tuple[list[int], list[int]]:
        prefix, before = self.frame.prefix, 0
        for place in range(1, len(whole) + 1):
            words = self._words(whole[:place])
            if len(words) > len(prefix):
                # A space before an answer may belong to the answer's first token.
                break
            before = place if prefix.startswith(words) else before
        return whole[:before], whole[before:]

    @cached_property
    def prefix(self) -> list[int]:
        """The tokens that stand between the prompt and an answer that was not thought about."""
        return self.answer(_ANSWER)[0]

    @cached_property
    def closes(self) -> list[int]:
        """The tokens that end thinking."""
        return self._tokens(self.frame.closes or self.frame.prefix)

    @cached_property
    def opening(self) -> int | None:
        """The token by which a model shows that what it writes is not yet its answer; nothing where the prompt itself
        says so."""
        begins = self.frame.prefix if self.frame.opens is None else self.frame.opens
        return next(iter(self._tokens(begins.lstrip())), None)

    @cached_property
    def end(self) -> int:
        """The token that the template writes after an answer; the end-of-text token where it writes none."""
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        end = next((one for one in self._tokens(self.frame.end) if one in special), self.tokenizer.eos_token_id)
        if end is None:
            raise self._error("its tokenizer has no end-of-turn token")
        return int(end)

    def split(self, said: Sequence[int]) -> tuple[list[int], list[int]]:
        """What a model wrote before its answer, its thinking and the marks around it, and the answer."""
        said, mark = list(said), self.frame.mark if self.tokenizer.chat_template else ""
        if not mark or not said:
            return [], said
        if mark not in self._words(said):
            thinks = self.opening in (None, said[0])
            return (said, []) if thinks else ([], said)
        # The fewest tokens that hold the mark.
        low, high = 1, len(said)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if mark in self._words(said[:middle]) else (middle + 1, high)
        while low < len(said) and self._words(said[low : low + 1]).isspace():
            low += 1
        return said[:low], said[low:]

    def split_text(self, text: str) -> tuple[str | None, str]:
        """The same of a text: the thinking, if there is any, and the answer."""
        mark, opens = self.frame.mark, (self.frame.opens or "").strip()
        thinks = bool(opens) and text.lstrip().startswith(opens)
        if not mark or not (thinks or mark in text):
            return None, text
        before, _, answer = text.partition(mark)
        return before.strip().removeprefix(opens).strip() or None, answer.lstrip()

    def text(self, tokens: Sequence[int]) -> str:
        """The words of an answer."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def thinking(self, before: Sequence[int]) -> str | None:
        """The words of what a model wrote before its answer."""
        if not before:
            return None
        text = self._words(before)
        closing = (self.frame.closes or self.frame.mark).strip()
        text = text.partition(closing)[0] if closing in text else text.partition(self.frame.mark)[0]
        return text.strip().removeprefix((self.frame.opens or "").strip()).strip() or None

    @cached_property
    def frame(self) -> Frame:
        """Found by rendering a question, and an answer to it."""
        asked = self.render([{"role": "user", "content": _QUESTION}])
        _, kept, tail = asked.rpartition(_QUESTION)
        before, found, end = self._turn({"content": _ANSWER}).rpartition(_ANSWER)
        if not (kept and found):
            raise self._error("its chat template alters what is said, so that answers cannot be found in it")
        if before.startswith(asked):
            return Frame(tail, before[len(asked) :], end, *self._thinking(asked))
        # The prompt opens a block of thinking, which a turn that was not thought about is shown without.
        shared = _common(asked, before)
        opened, rest = asked[len(shared) :].strip(), before[len(shared) :]
        if not (opened.startswith("<") and opened.endswith(">")):
            told = "its chat template writes a prompt's end otherwise than the turn that follows it"
            raise self._error(f"{told}; see model.chat_template_kwargs")
        closing = f"</{opened[1:]}"
        prefix = rest if closing in rest else f"\n{closing}\n\n"
        return Frame(tail, prefix, end, "", prefix)

    def _thinking(self, asked: str) -> tuple[str | None, str]:
        """What stands before and after the thinking of a turn that was thought about."""
        names = ("thinking", "reasoning", "reasoning_content")
        try:
            text = self._turn({"content": _ANSWER} | dict.fromkeys(names, _THOUGHT))
        except InputError:
            return None, ""
        before, found, rest = text.partition(_THOUGHT)
        closes, answered, _ = rest.rpartition(_ANSWER)
        if not (found and answered and before.startswith(asked)):
            return None, ""
        return before[len(asked) :], closes

    def _turn(self, answer: dict[str, str]) -> str:
        question = {"role": "user", "content": _QUESTION}
        return self.render([question, {"role": "assistant", **answer}], answer_follows=False)

    def render(self, messages: Messages, *, answer_follows: bool = True) -> str:
        """The template's text. Where a family has no system role, its text opens the first user turn."""
        from jinja2 import TemplateError

        if self.tokenizer.chat_template is None:
            raise self._error("its tokenizer has no chat template: take a chat model, or give it one")
        has_system = messages[0]["role"] == "system" and len(messages) > 1
        try:
            text = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=answer_follows, **self.settings
            )
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            if not has_system:
                raise self._error(f"its chat template fails: {error}") from None
        else:
            if not has_system or messages[0]["content"].strip() in text:
                return text
        first = {"role": "user", "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        return self.render([first, *messages[2:]], answer_follows=answer_follows)

    def _after_prompt(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text as it stands behind a prompt."""
        tail, found = self._tail, self.encode([self.frame.tail + text for text in texts])
        places = zip(texts, found, strict=True)
        return [whole[len(tail) :] if whole[: len(tail)] == tail else self._tokens(text) for text, whole in places]

    @cached_property
    def _tail(self) -> list[int]:
        return self._tokens(self.frame.tail)

    def _tokens(self, text: str) -> list[int]:
        return self.encode([text])[0]

    def _words(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def _error(self, message: str) -> InputError:
        return InputError(message, file=self.tokenizer.name_or_path)


def _common(text: str, other: str) -> str:
    """What two texts begin with alike, no half of a tag at its end."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False))
    shared = text[: sum(1 for _ in pairs)]
    return shared[: shared.rfind("<")] if shared.rfind("<") > shared.rfind(">") else shared
