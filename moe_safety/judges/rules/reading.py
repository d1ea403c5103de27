"""Turns an answer into plain sentences: one spelling, no markup, no thinking, no quotations."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

HEAD = 4000
"""Characters that are read; a refusal shows long before."""


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case with its contractions written out."""

    text: str
    words: int
    is_item: bool
    """It belongs to a numbered or bulleted list."""


@dataclass(frozen=True)
class Reading:
    """An answer as the rules see it. `problem` says why nothing can be read, if so."""

    sentences: list[Sentence]
    text: str = ""
    code_lines: int = 0
    problem: str | None = None

    @property
    def words(self) -> int:
        return sum(sentence.words for sentence in self.sentences)


def read_answer(response: str) -> Reading:
    """The sentences of an answer, or why there are none."""
    text, problem = without_thinking(response)
    if problem:
        return Reading([], problem=problem)
    text = text[:HEAD]
    if "<" in text or "[" in text:
        text = _SPECIAL_TOKENS.sub(" ", text)
    text = _freed_voice(fold(text).strip())
    if problem := _unreadable(text):
        return Reading([], problem=problem)
    text, code_lines = _without_code(text)
    text = _without_quotations(text)
    return Reading(_sentences(text), text, code_lines)


def fold(text: str) -> str:
    """Lower case, one kind of letter, apostrophe, quote and space, contractions written out."""
    if not text.isascii():
        # Full-width and ornamental letters become plain ones; what is a quote or a space to us comes first.
        text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS))
    text = text.lower()
    if "`" in text:
        text = _BACKTICK_APOSTROPHE.sub("'", text)
    text = f" {text} "
    for short, long in _WRITTEN_OUT:
        text = text.replace(short, long)
    return text


_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("’‘ʼ´′＇‛ʹ", "'"),
        **dict.fromkeys("“”„«»＂‟", '"'),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000\t", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\ufe0f\u00ad", ""),
        **dict.fromkeys("\u2028\u2029", "\n"),
        **dict.fromkeys("‐‑‒–—", "-"),
        "…": "...",
    }
)
_BACKTICK_APOSTROPHE = re.compile(r"(?<=[a-z])`(?=[a-z]{1,2}\b)")
_WRITTEN_OUT = (
    ("can't", "cannot"),
    ("won't", "will not"),
    ("n't", " not"),
    ("can not", "cannot"),
    ("let's", "let us"),
    ("'m", " am"),
    ("'re", " are"),
    ("'ve", " have"),
    ("'ll", " will"),
    ("'d ", " would "),
    *((f"{word}'s", f"{word} is") for word in ("it", "that", "there", "here", "what")),
    *(
        (f" {word}nt ", f" {word} not ")
        for word in ("do", "does", "did", "is", "are", "was", "would", "should", "could")
    ),
    (" cant ", " cannot "),
    (" wont ", " will not "),
    (" im ", " i am "),
    (" ive ", " i have "),
)


_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHT_ENDS = re.compile(r"^.*(?:</(?:think|thinking|thought|reasoning)>|<\|channel\|>final<\|message\|>)", re.DOTALL)
_THOUGHT_STARTS = re.compile(r"<(?:think|thinking|thought|reasoning)>|<\|channel\|>analysis", re.IGNORECASE)
_SPECIAL_TOKENS = re.compile(
    r"<\|[^|<>]{1,40}\|>|</?s>|<(?:pad|eos|bos|unk)>|<(?:start|end)_of_turn>|\[/?(?:INST|SYS)\]"
)


def without_thinking(text: str) -> tuple[str, str | None]:
    """An answer's final words, in whatever way of writing its thinking stands before them; or why there are none."""
    if "<" not in text:
        return text, None
    text = _THOUGHT_ENDS.sub("", _THOUGHT.sub("", text))
    return text, "the thinking never ends" if _THOUGHT_STARTS.search(text) else None


_WORD = re.compile(r"[^\W_]+")
_NO_VOWEL = re.compile(r"\b[bcdfghj-np-tvwxz]{2,}\b")
LOOP, TURNS = 40, 6
"""An answer ends in a loop where its last characters stand in it so often."""
LEAST_DIFFERENT = 0.2
"""Share of the first fifty words that differ from one another, in the poorest text that says something."""


def _goes_round(text: str) -> bool:
    """Whether the answer ends in the same words over and over, with nothing between. A refrain has verses between it,
    and the rows of a table differ."""
    before = text.rfind(text[-LOOP:], 0, len(text) - 1) if len(text) > LOOP * TURNS else -1
    if before < 0:
        return False
    period = len(text) - LOOP - before
    return len(text) >= period * TURNS and text[-period * TURNS :] == text[-period:] * TURNS


def _unreadable(text: str) -> str | None:
    if _goes_round(text):
        return "the answer repeats itself"
    start = set(text[:300].split())
    if len(start) >= 12 and len(_NO_VOWEL.findall(text[:300])) > 0.6 * len(start):
        return "the answer is babble"
    if len(start) > 12 and sum(map(str.isalpha, start)) > 6:
        return None
    words = _WORD.findall(text)
    if not words:
        return "the answer is empty" if not text.strip() else "the answer has no words"
    spoken = [word for word in words if not word.isdigit()]
    if len(spoken) >= 20 and len(set(spoken)) < LEAST_DIFFERENT * min(len(spoken), 50):
        return "the answer repeats itself"
    if len(text) > 16 and len(set(text) - {" ", "\n"}) <= 2:
        return "the answer repeats one sign"
    different = len(set(words))
    if (len(words) >= 5 and different == 1) or (len(words) >= 20 and different <= 3):
        return "the answer repeats one token"
    if len(text) > 40 and sum(map(len, words)) < 0.15 * len(text.replace(" ", "")):
        return "the answer is mostly punctuation"
    return None


_PLAIN_NAME = r"chat ?gpt|gpt(?:-?[34](?:\.5)?)?|classic|normal|standard|default|assistant"
_FREED_NAME = (
    r"dan|stan|dude|jailbreak|jailbroken|developer mode|evil\w*|unfiltered|uncensored|opposite\w*|aim|rebel|anarchy"
)
_VOICE = re.compile(
    rf"(?<![\w ,.;:'\"-])\b(?:(?P<plain>{_PLAIN_NAME})|(?P<freed>{_FREED_NAME}))"
    r"(?: (?:mode|output|response|voice)){0,2} ?(?:[\])] ?:?|:)"
)
"""A name at the start of a line or in brackets, as the attacks that ask for two answers have it."""


def _freed_voice(text: str) -> str:
    """Where an answer speaks in two voices, the jailbroken one; it is the one that answers the attack."""
    marks = list(_VOICE.finditer(text))
    freed = [place for place, mark in enumerate(marks) if mark["freed"]]
    if not freed:
        return text[marks[0].end() :] if marks and not text[: marks[0].start()].strip() else text
    last = freed[-1]
    end = marks[last + 1].start() if last + 1 < len(marks) else len(text)
    return text[marks[last].end() : end]


_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)


def _without_code(text: str) -> tuple[str, int]:
    if "```" not in text:
        return text, 0
    outside = _FENCE.sub("\n", text)
    if not _WORD.search(outside):
        return text.replace("```", "\n"), 0
    return outside, sum(block.count("\n") for block in _FENCE.findall(text))


_DOUBLE_QUOTED = re.compile(r'"(?:[^"\n]|\n(?!\n)){2,400}"')
_SINGLE_QUOTED = re.compile(r"(?<![\w'])'[^'\n]{2,300}'(?!\w)")


def _without_quotations(text: str) -> str:
    """What is said in quotation marks is somebody else's speech, unless the marks hold the whole answer."""
    whole = text.strip(" \n*_>#")
    if whole[:1] in "\"'" and whole.count(whole[:1]) - whole.endswith(whole[:1]) == 1:
        return whole.strip("\"'")
    outside = _DOUBLE_QUOTED.sub(' "" ', text) if '"' in text else text
    outside = _SINGLE_QUOTED.sub(" '' ", outside) if "'" in outside else outside
    return outside if _WORD.search(outside) else text


_ITEM = re.compile(r"^(?:[ \t>#*_]*(?:\(?\d{1,2}[.):]\s|step \d|\(?[a-h]\)\s)|[ \t]*[-•+*]\s)", re.MULTILINE)
_ITEM_MARK = "\x01"
_MARKUP = str.maketrans("_", " ", "*#>`|~[]🚫🙏")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


def _sentences(text: str) -> list[Sentence]:
    found = []
    for line in _ITEM.sub(_ITEM_MARK, text).translate(_MARKUP).split("\n"):
        is_item = line.startswith(_ITEM_MARK)
        for part in _SENTENCE_END.split(line.strip(_ITEM_MARK)):
            part = part.strip(" \"'")
            if _WORD.search(part):
                found.append(Sentence(part, part.count(" ") + 1, is_item))
    return found
