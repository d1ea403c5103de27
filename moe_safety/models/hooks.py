"""Hooks on modules and parameters, for as long as a context lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager


@contextmanager
def hooked(handles: Iterable[AbstractContextManager[object]]) -> Iterator[None]:
    """Inside, these hooks, whose handles are what registering gave, are there."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield
