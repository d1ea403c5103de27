"""The command line. Parsing and configuration need neither torch nor Ray, so help and mistakes are told at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from textwrap import fill

from moe_safety.cli import checkpoints, completion, doctor, init, stages, tools
from moe_safety.cli.commands import Commands, Parser
from moe_safety.errors import MoeSafetyError
from moe_safety.stopping import Stopped, stoppable


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a user's mistake, or a signal, is one line on standard
    error."""
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output has left, as `head` does. What is still to be flushed goes nowhere, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(argv: Sequence[str] | None) -> int:
    try:
        # A stage of another package that cannot be imported is told here.
        args = make_parser().parse_args(argv)
        with stoppable():
            return int(args.run(args) or 0)
    except MoeSafetyError as error:
        print(f"error: {error}".replace("\n", " "), file=sys.stderr)
        return error.exit_code
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code


class _Version(argparse.Action):
    """Reads the version when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"moe-safety {version('moe-safety')}")
        except PackageNotFoundError:
            print("moe-safety, not installed but run from its folder")
        parser.exit()


_EXIT_CODES = """exit codes:
  0    done
  1    a check that failed, or a run that broke
  2    a mistake in configuration or input, told in one line
  130  stopped by Ctrl-C
  143  stopped by SIGTERM"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    import moe_safety

    parser = Parser(
        prog="moe-safety",
        usage="moe-safety COMMAND [...]     (COMMAND --help: its flags and an example)",
        description=fill(moe_safety.__doc__ or "", 80),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    commands = Commands(parser)
    for room in (init, stages, tools, checkpoints, doctor):
        room.add_commands(commands)
    completion.add_commands(commands, make_parser)
    parser.epilog = "\n".join([*commands.listed(), _EXIT_CODES])
    return parser
