"""The stages, `run` and `demo`: commands that a configuration decides."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from moe_safety.cli.commands import Commands

if TYPE_CHECKING:
    from moe_safety.config import Config

DEMO_CONFIG = Path(__file__).parents[1] / "models" / "demo" / "demo.yaml"


def add_commands(commands: Commands) -> None:
    from moe_safety.pipeline import STAGES

    for name, (_, summary) in STAGES.items():
        _add_config_arguments(commands.add(name, summary, _run_stage))
    _add_config_arguments(commands.add("run", "all of the above, skipping what is already done", _run_all))

    demo = commands.add("demo", "`run` on the built-in demo model", _demo)
    demo.add_argument("--out", metavar="DIR", default="runs/demo", help="run directory (runs/demo)")


def _add_config_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", metavar="CONFIG.yaml")
    command.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", dest="overrides")
    command.add_argument("--address", metavar="ADDR", help="Ray cluster to run on; the local machine unless given")
    command.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    command.add_argument("--force", action="store_true", help="do it again, whatever stands there")


def _configured(args: argparse.Namespace) -> Config | None:
    """The configuration, or nothing where it was only to be shown."""
    from moe_safety.config import dump_config, load_config

    config = load_config(args.config, args.overrides)
    if args.dry_run:
        print(dump_config(config), end="")
        return None
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    return config


def _run_stage(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_one

    if config := _configured(args):
        run_one(args.command, config, force=args.force)


def _run_all(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_all

    if config := _configured(args):
        run_all(config, force=args.force)


def _demo(args: argparse.Namespace) -> None:
    from moe_safety.config import load_config
    from moe_safety.pipeline import run_all

    run_all(load_config(DEMO_CONFIG, [f"run_dir={json.dumps(args.out)}"]))
