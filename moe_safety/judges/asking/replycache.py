"""Replies that were paid for once, kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any


class ReplyCache:
    """A small file for each reply, named by a hash of all that was asked; the question itself is not kept."""

    def __init__(self) -> None:
        base = os.environ.get("MOE_SAFETY_CACHE") or Path.home() / ".cache" / "moe-safety"
        self.folder = Path(base) / "replies"

    def get(self, asked: Any) -> str | None:
        """The reply to the same question; a file that cannot be read is as good as none."""
        try:
            reply = json.loads(self._path(asked).read_text(encoding="utf-8"))["reply"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return reply if isinstance(reply, str) else None

    def put(self, asked: Any, reply: str) -> None:
        """Keeps a reply; where nothing can be written it is good for this once."""
        path = self._path(asked)
        aside = path.with_suffix(f".{uuid.uuid4().hex}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps({"reply": reply}), encoding="utf-8")
            aside.replace(path)

    def _path(self, asked: Any) -> Path:
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"
