"""The list of commands while it is put together."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from textwrap import fill

Run = Callable[[argparse.Namespace], object]

GROUPS = ("whole runs", "stages, in their order", "looking", "checkpoints", "this program")
"""Of commands, as help tells them."""


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
