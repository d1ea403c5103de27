"""The offline judge: turns of phrase and where they stand. Everything that its verdicts depend on is in this folder."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable


def rules_digest(folder: Traversable | None = None) -> str:
    """The version of the rules: sha256 over the names and texts of their folder's files, tables and code alike."""
    digest = hashlib.sha256()
    for file in sorted((folder or files(__name__)).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
