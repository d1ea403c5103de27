"""Messages of a chat, as every file of this room passes them on."""

from __future__ import annotations

Message = dict[str, str]


def plain(goal: str, system: str) -> list[Message]:
    """A request asked plainly."""
    return with_system([{"role": "user", "content": goal}], system)


def with_system(messages: list[Message], system: str) -> list[Message]:
    """The conversation with this system message, where it brings none of its own."""
    if not system or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system}, *messages]
