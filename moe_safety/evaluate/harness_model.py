"""The model as lm-evaluation-harness sees it: in this process one that takes down what it is asked, or says again what
replicas answered; in a replica the one that is loaded there."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from moe_safety.models.text import Chat

# It warns that a model was loaded already, as ours always is.
logging.getLogger("lm_eval").setLevel(logging.ERROR)

KINDS: Mapping[str, Any] = {"loglikelihood": [0.0, False], "loglikelihood_rolling": 0.0, "generate_until": ""}
"""The kinds of request, and what is said to one before it was answered."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_USUAL_LIMIT = 256
"""The harness's own names, and number, of the tokens that may be said."""


class KnownModel(LM):
    """Says what is known of each request, and takes down all of them. A request is JSON: its kind, its arguments, and
    how often the same was asked before it."""

    def __init__(self, chat: Chat, known: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.chat, self.known, self.asked = chat, known, Counter[str]()
        self.requests: list[str] = []

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-probability of each ending, and whether it is what would be said."""
        return [tuple(said) for said in self._said("loglikelihood", requests)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of each text."""
        return self._said("loglikelihood_rolling", requests)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is said."""
        return self._said("generate_until", requests)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """With what the template writes before an answer; where the last turn begins one, it goes on from there."""
        begun = "" if add_generation_prompt else chat_history[-1]["content"]
        before = chat_history if add_generation_prompt else chat_history[:-1]
        return self.chat.render(before) + self.chat.frame.prefix + begun

    @property
    def tokenizer_name(self) -> str:
        """What the harness names caches by, which are not in use."""
        return "chat"

    def _said(self, kind: str, requests: Sequence[Instance]) -> list[Any]:
        return [self._one(kind, request.args) for request in requests]

    def _one(self, kind: str, arguments: Sequence[Any]) -> Any:
        same = json.dumps([kind, arguments])
        request = json.dumps([kind, arguments, self.asked[same]])
        self.asked[same] += 1
        self.requests.append(request)
        return KINDS[kind] if self.known is None else self.known[request]


def tokens_of(chat: Chat, request: str) -> int:
    """How many tokens a request holds, those that may be said included."""
    kind, (text, *more), _ = json.loads(request)
    said = 0
    if kind == "loglikelihood":
        text += more[0]
    elif kind == "generate_until":
        said = next((more[0][name] for name in _LIMITS if more[0].get(name)), _USUAL_LIMIT)
    return said + len(chat.tokenizer(text, add_special_tokens=False).input_ids)


def answered(model: Any, chat: Chat, requests: Sequence[str], *, max_length: int, at_once: int) -> list[Any]:
    """The loaded model's response to each request, `at_once` in a forward pass. What is sampled hangs on these requests
    alone."""
    harness = HFLM(
        pretrained=model, tokenizer=chat.tokenizer, batch_size=at_once, max_length=max_length, add_bos_token=False
    )
    end = chat.tokenizer.decode([chat.end])
    found: dict[int, Any] = {}
    read = [json.loads(request) for request in requests]
    cards = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(cards):
        torch.manual_seed(0)
        for kind in KINDS:
            own = [place for place, request in enumerate(read) if request[0] == kind]
            asked = [Instance(kind, {}, tuple(_ended(read[place][1], end)), place) for place in own]
            if own:
                found |= dict(zip(own, getattr(harness, kind)(asked, disable_tqdm=True), strict=True))
    return [found[place] for place in range(len(read))]


def _ended(arguments: list[Any], end: str) -> list[Any]:
    """What is generated ends with the turn, too."""
    for given in arguments:
        if isinstance(given, dict):
            until = given.get("until") or []
            given["until"] = [*([until] if isinstance(until, str) else until), end]
    return arguments
