"""`completion`: what makes a shell complete commands, flags and keys.

A script that is made once, from the parser. A library would not do better here: argcomplete starts this program at
every press of the key, and shtab does not know fish.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from moe_safety.cli.commands import Commands

if TYPE_CHECKING:
    from pydantic import BaseModel

SHELLS = ("bash", "zsh", "fish")
Flags = Mapping[str, str]
"""With the help of each."""


def add_commands(commands: Commands, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """Adds `completion` to the command line that `parser` makes."""
    command = commands.add(
        "completion",
        "print what makes a shell complete commands, flags and keys",
        lambda args: print("\n".join(script(args.shell, parser()))),
        group="this program",
        example='eval "$(moe-safety completion bash)"      # in ~/.bashrc; zsh: the same in ~/.zshrc\n'
        "  moe-safety completion fish > ~/.config/fish/completions/moe-safety.fish",
    )
    command.add_argument("shell", metavar="|".join(SHELLS), choices=SHELLS, help="for which shell")


def script(shell: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of the script."""
    known = dict(_commands(parser))
    return _fish(known) if shell == "fish" else _bash(known, zsh=shell == "zsh")


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, tuple[str, Flags, list[str]]]]:
    """Each command: what it does, its flags, and commands of its own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                flags = {
                    flag: (one.help or "").replace("'", "").partition(";")[0]
                    for flag, one in command._option_string_actions.items()
                    if flag.startswith("--")
                }
                inner = [name for name, _ in _commands(command)]
                yield name, ((command.description or "").replace("'", ""), flags, inner)


@cache
def _keys() -> str:
    """Every key that `--set` takes, with the sign behind it."""
    from moe_safety.config import Config

    return " ".join(f"{key}=" for key in _keys_of(Config))


def _keys_of(section: type[BaseModel], path: str = "") -> Iterator[str]:
    from moe_safety.config import models_in

    for name, field in section.model_fields.items():
        inner = models_in(field.annotation)
        # Of settings of several kinds, and of lists, the key alone is known.
        if inner and field.annotation is inner[0]:
            yield from _keys_of(inner[0], f"{path}{name}.")
        else:
            yield f"{path}{name}"


def _bash(known: Mapping[str, tuple[str, Flags, list[str]]], *, zsh: bool) -> Iterator[str]:
    if zsh:
        yield "autoload -U +X bashcompinit && bashcompinit"
    yield "_moe_safety() {"
    yield '  local now="${COMP_WORDS[COMP_CWORD]}" last="${COMP_WORDS[COMP_CWORD-1]}" words=""'
    yield '  if [[ "$last" == --set ]]; then'
    yield f'    words="{_keys()}"'
    yield "    type compopt >/dev/null 2>&1 && compopt -o nospace"
    yield "  elif [[ $COMP_CWORD == 1 ]]; then"
    yield f'    words="{" ".join(known)} --help --version"'
    yield "  else"
    yield '    case "${COMP_WORDS[1]}" in'
    for name, (_, flags, inner) in known.items():
        first = f'[[ $COMP_CWORD == 2 ]] && words="{" ".join(inner)}"; ' if inner else ""
        yield f'      {name}) {first}[[ "$now" == -* ]] && words="{" ".join(flags)}";;'
    yield "    esac"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$now"))'
    yield "}"
    yield "complete -o default -F _moe_safety moe-safety"


def _fish(known: Mapping[str, tuple[str, Flags, list[str]]]) -> Iterator[str]:
    for name, (about, flags, inner) in known.items():
        yield f"complete -c moe-safety -n __fish_use_subcommand -f -a {name} -d '{about}'"
        here = f"complete -c moe-safety -n '__fish_seen_subcommand_from {name}'"
        for flag, told in flags.items():
            keys = f" -x -a '{_keys()}'" if flag == "--set" else ""
            yield f"{here} -l {flag[2:]}{keys} -d '{told}'"
        if inner:
            yield f"{here} -f -a '{' '.join(inner)}'"
