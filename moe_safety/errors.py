"""The two ways a command ends badly. Anything else that escapes is a bug and keeps its traceback."""

from __future__ import annotations


class MoeSafetyError(Exception):
    """Ends a command with one line on standard error and `exit_code`."""

    exit_code = 1


class InputError(MoeSafetyError):
    """Bad input or configuration (exit 2). Names the file and row, or the key, that is to blame."""

    exit_code = 2

    def __init__(self, message: str, *, file: object = None, row: int | None = None, key: str | None = None) -> None:
        self.message, self.file, self.row, self.key = message, file, row, key
        super().__init__(self.line())

    def line(self) -> str:
        """`FILE, row N: message`, as far as each part is known."""
        place = [str(self.file)] if self.file is not None else []
        if self.row is not None:
            place.append(f"row {self.row}")
        if self.key is not None:
            place.append(self.key)
        return f"{', '.join(place)}: {self.message}" if place else self.message


class RunError(MoeSafetyError):
    """A check that failed, or a run that broke (exit 1)."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """The last line, where Ray says why."""
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
