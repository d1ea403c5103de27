"""Chat completions over HTTP, as OpenAI and the servers that follow it speak them."""

from __future__ import annotations

import json
import os
import time
from http.client import HTTPException, HTTPResponse
from itertools import count
from typing import Annotated, Any, NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pydantic import AfterValidator, Field

from moe_safety.config import Section, resource
from moe_safety.errors import InputError, RunError

LONGEST_WAIT = 60
"""Seconds; an endpoint that asks for a longer pause is tried again after this."""
_LONGEST_REPLY = 1 << 22
_PIECE = 1 << 16


def _plain_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should begin with http:// or https:// and name a host")
    # What stands in a configuration is written into manifests.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("should hold no user name, key or query: the key comes from the environment")
    return url.rstrip("/")


class ChatSettings(Section):
    """Where an endpoint is, and how it is called."""

    base_url: Annotated[str, AfterValidator(_plain_address)] = "https://api.openai.com/v1"
    """Where the endpoint is; `/chat/completions` is added."""
    key_env: Annotated[str, Field(pattern="^[A-Z_][A-Z0-9_]*$")] | None = resource("OPENAI_API_KEY")
    """The environment variable that holds the key; null where none is needed. The key itself is written nowhere."""
    timeout: float = Field(60.0, gt=0)
    """Seconds that one call may take."""
    attempts: int = Field(5, ge=1)
    """Calls for one answer: time-outs, lost connections, 429 and 5xx are tried again."""
    backoff: float = resource(1.0, ge=0)
    """Seconds before the second attempt, doubled before each further one, and longer where the endpoint asks for it."""


class CallFailed(Exception):
    """There is no reply. The message is short, and holds nothing that was sent or received."""


class _TryAgain(CallFailed):
    """A fault that may pass."""

    def __init__(self, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.wait = wait


class _Lost(_TryAgain):
    """There was no connection."""


def read_key(config: ChatSettings, key: str) -> str | None:
    """The endpoint's key, from the environment: read where it is needed and kept nowhere. `key` is the section's."""
    if config.key_env is None:
        return None
    found = os.environ.get(config.key_env, "").strip()
    if not found:
        raise InputError(f"the environment variable {config.key_env} is not set", key=f"{key}.key_env")
    if not (found.isascii() and found.isprintable()):
        raise InputError(f"the environment variable {config.key_env} holds no key", key=f"{key}.key_env")
    return found


class ChatClient:
    """Asks one endpoint, from several threads at once."""

    def __init__(self, config: ChatSettings, key: str) -> None:
        self.config, self.key = config, key
        # A redirect would carry the key to another host.
        self.opener = build_opener(_NoRedirects)
        self.has_answered = False

    def complete(self, body: dict[str, Any]) -> str:
        """The reply to a request, or `CallFailed` where all attempts are spent."""
        data = json.dumps(body).encode()
        for attempt in count(1):
            try:
                return self._call(data)
            except _TryAgain as failure:
                if attempt == self.config.attempts:
                    self._give_up(failure)
                time.sleep(max(self.config.backoff * 2 ** (attempt - 1), failure.wait))
        raise AssertionError("unreachable")

    def _give_up(self, failure: _TryAgain) -> NoReturn:
        # Where nobody was ever reached the address is wrong, or the server down: no answer would get a verdict.
        if isinstance(failure, _Lost) and not self.has_answered:
            raise RunError(f"{self.config.base_url}: {failure}") from failure
        raise CallFailed(f"{failure}, {self.config.attempts} times") from failure

    def _call(self, data: bytes) -> str:
        deadline = time.monotonic() + self.config.timeout
        headers = {"Content-Type": "application/json"}
        if found := read_key(self.config, self.key):
            headers["Authorization"] = f"Bearer {found}"
        request = Request(f"{self.config.base_url}/chat/completions", data, headers)
        try:
            with self.opener.open(request, timeout=self.config.timeout) as response:
                self.has_answered = True
                return _content(_read(response, deadline))
        except HTTPError as error:
            self.has_answered = True
            with error:
                raise self._refusal(error) from None
        except TimeoutError:
            raise _TryAgain(f"no reply in {self.config.timeout:g} s") from None
        except (OSError, HTTPException) as error:
            raise _Lost(f"no connection: {type(getattr(error, 'reason', error)).__name__}") from None

    def _refusal(self, error: HTTPError) -> Exception:
        status = f"HTTP {error.code}"
        if error.code in (408, 429) or error.code >= 500:
            asked = error.headers.get("Retry-After", "")
            return _TryAgain(status, min(int(asked), LONGEST_WAIT) if asked.isdecimal() else 0)
        # These it will say to every question.
        if error.code in (401, 402, 403):
            return InputError(f"the endpoint refuses the key ({status})", key=f"{self.key}.key_env")
        if error.code == 404 or 300 <= error.code < 400:
            return InputError(f"{self.config.base_url} knows no such address or model ({status})", key=self.key)
        return CallFailed(status)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _read(response: HTTPResponse, deadline: float) -> bytes:
    """The body. Some servers send blanks to keep a slow call alive, so the clock is looked at between pieces."""
    body = b""
    while piece := response.read1(_PIECE):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(body) > _LONGEST_REPLY:
            raise CallFailed("the reply does not end")
    return body


def _content(body: bytes) -> str:
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise CallFailed("the reply is no chat completion")
    return content
