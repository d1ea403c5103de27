"""The list of commands while it is put together."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], object]


class Commands:
    """The commands of a parser, or of a command that has some of its own."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, name: str, summary: str, run: Run | None = None) -> argparse.ArgumentParser:
        """Adds one; what `run` returns, if anything, is the exit code."""
        command = self.commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run, command=name)
        return command
