"""The list of commands while it is put together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from textwrap import fill
from typing import NoReturn

Run = Callable[[argparse.Namespace], object]

GROUPS = ("whole runs", "stages, in their order", "looking", "checkpoints", "this program")
"""Of commands, as help tells them."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are."""

    def error(self, message: str) -> NoReturn:
        """Ends the program, with the nearest of the names that there are."""
        found = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if found:
            names = re.findall(r"[\w-]+", found[3])
            near = get_close_matches(found[2], names, 1)
            guess = f", did you mean '{near[0]}'?" if near else f". Known: {', '.join(names)}"
            message = f"{found[1]}: there is no '{found[2]}'{guess}"
        self.exit(2, f"error: {message} ({self.prog} --help)\n")


class Commands:
    """The commands of a parser, or of a command that has some of its own."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.commands = parser.add_subparsers(
            prog=parser.prog, metavar="COMMAND", required=True, help=argparse.SUPPRESS
        )
        self.summaries: dict[str, dict[str, str]] = {}

    def add(
        self,
        name: str,
        summary: str,
        run: Run | None = None,
        *,
        group: str = "",
        example: str | None = None,
        more: str = "",
    ) -> argparse.ArgumentParser:
        """Adds one; what `run` returns, if anything, is the exit code. The `example` is a whole line; its own help has
        `more` than the summary."""
        command = self.commands.add_parser(
            name,
            description=fill(f"{summary[0].upper()}{summary[1:]}. {more}".rstrip(), 80),
            epilog=f"example:\n  {example}" if example else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run, command=name)
        self.summaries.setdefault(group, {})[name] = summary
        return command

    def listed(self) -> Iterator[str]:
        """A line for each command, by groups."""
        for group in sorted(self.summaries, key=lambda one: GROUPS.index(one) if one in GROUPS else -1):
            if group:
                yield f"{group}:"
            for name, summary in self.summaries[group].items():
                yield fill(f"  {name:<17}{summary}", 80, subsequent_indent=" " * 19)
            yield ""
