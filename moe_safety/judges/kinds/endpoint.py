"""A model behind an OpenAI-compatible endpoint as a judge."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from moe_safety.config import JUDGES, JudgeSettings, resource
from moe_safety.judges.asking.asked import Asked, AskedOfHarm
from moe_safety.judges.asking.chat import CallFailed, ChatClient, ChatSettings, read_key
from moe_safety.judges.asking.quoting import Template, defused
from moe_safety.judges.asking.replies import ReplyReader
from moe_safety.judges.asking.replycache import ReplyCache
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.verdict import Exchange, Judge, Verdict

_OURS = ("messages", "model", "n", "stream")


class _Called(ChatSettings, JudgeSettings):
    """What is asked of an endpoint, whatever the question."""

    kind: Literal["endpoint"] = "endpoint"
    model: str
    """As the endpoint calls it."""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0, "max_tokens": 16})
    """Sent along with every question."""
    parallel: int = resource(8, ge=1)
    """Calls under way at once."""

    @model_validator(mode="after")
    def _parameters_are_the_user_s(self) -> _Called:
        if taken := next((name for name in _OURS if name in self.parameters), None):
            raise ValueError(f"parameters cannot set `{taken}`")
        return self


class EndpointSettings(Asked, _Called):
    """The settings of the kind `endpoint`."""


class HarmEndpointSettings(AskedOfHarm, _Called):
    """The settings of the kind `endpoint` where it is asked about harm."""


class EndpointJudge(Judge):
    """Its replies are read by patterns, and kept, so that no question is paid for twice."""

    def __init__(self, config: EndpointSettings | HarmEndpointSettings, key: str) -> None:
        read_key(config, key)
        self.config, self.key = config, key
        self.template, self.reader, self.cache = Template(config.template), ReplyReader(config), ReplyCache()

    @cached_property
    def client(self) -> ChatClient:
        """The client that calls the endpoint, made at the first call."""
        return ChatClient(self.config, self.key)

    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        with ThreadPoolExecutor(self.config.parallel) as pool:
            return list(pool.map(self._judge, exchanges))

    def _judge(self, exchange: Exchange) -> Verdict:
        body = self._body(exchange)
        asked = [self.config.base_url, body]
        kept = self.cache.get(asked)
        if kept is not None:
            return self.reader(kept)
        try:
            reply = self.client.complete(body)
        except CallFailed as failure:
            return Verdict("unparsed", str(failure))
        verdict = self.reader(reply)
        if verdict.label != "unparsed":  # Another time it may say something that can be read.
            self.cache.put(asked, reply)
        return verdict

    def _body(self, exchange: Exchange) -> dict[str, Any]:
        # How the endpoint turns text into tokens is not ours to say, so marks that a chat is made of are broken.
        quoted = Exchange(defused(exchange.goal), defused(exchange.prompt), defused(exchange.response))
        segments = self.template.fill(quoted)
        turn = {"role": "user", "content": "".join(segment.text for segment in segments)}
        return {**self.config.parameters, "model": self.config.model, "messages": [turn]}


JUDGES.add(
    JudgeKind(
        about="any OpenAI-compatible server: retries, a time limit, replies kept on disk, the key from the environment "
        "alone",
        section=EndpointSettings,
        harm_section=HarmEndpointSettings,
        questions=("refusal", "harm"),
        make=EndpointJudge,
        check=read_key,
        network=True,
    )
)
