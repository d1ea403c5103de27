"""How a command is stopped: Ctrl-C and SIGTERM end it with one line, and run again it goes on from what is finished.
What would lose work by it is first asked to end of its own accord."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from moe_safety.errors import MoeSafetyError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Ends a command with one line on standard error and `exit_code`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; run again, it goes on from what is finished")
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Both signals interrupt what runs inside, as Ctrl-C does in Python, and then raise `Stopped`. One that is ignored,
    since this process was started so, stays ignored."""
    received = signal.SIGINT

    def interrupt(number: int, frame: Any) -> None:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    with own_handlers():
        for number in _SIGNALS if _in_main_thread() else ():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, interrupt)
        try:
            yield
        except KeyboardInterrupt:
            # What was raised may be another one: Ray says of its own accord that it was interrupted.
            raise Stopped(received) from None


_ASKED = b"stopping at the next step, with a checkpoint; once more stops at once\n"


@contextmanager
def gently(ask: Callable[[], object]) -> Iterator[None]:
    """The first signal inside only asks what runs to end; a second one interrupts it. The first one takes effect when
    all of this has ended."""
    asked: list[int] = []

    def first(number: int, frame: Any) -> None:
        restore()
        if asked:
            # Somebody inside has put this handler back.
            return signal.raise_signal(number)
        asked.append(number)
        threading.Thread(target=ask, daemon=True).start()
        # Not by `print`, in the midst of which this may be called; and to nobody, where the terminal is gone.
        with suppress(OSError):
            os.write(2, b"\n" * os.isatty(2) + _ASKED)

    before = {number: signal.getsignal(number) for number in _SIGNALS} if _in_main_thread() else {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, first)
    try:
        yield
    except MoeSafetyError:
        # Such as a checkpoint that could not be written: that it was stopped would tell less.
        asked.clear()
        raise
    finally:
        restore()
        if asked:
            signal.raise_signal(asked[0])


@contextmanager
def own_handlers() -> Iterator[None]:
    """Afterwards signals are handled as before. Ray puts handlers of its own in place: for SIGTERM one that aborts the
    process, for Ctrl-C in training one that ends it as if it had succeeded, also long after training."""
    before = {number: signal.getsignal(number) for number in _SIGNALS} if _in_main_thread() else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _in_main_thread() -> bool:
    """Only there may handlers be set."""
    return threading.current_thread() is threading.main_thread()
