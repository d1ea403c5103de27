"""The command line. Parsing and configuration need neither torch nor Ray, so help and mistakes are told at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_safety.errors import MoeSafetyError

if TYPE_CHECKING:
    from moe_safety.config import Config

DEMO_CONFIG = Path(__file__).parent / "models" / "demo" / "demo.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a user's mistake is one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except MoeSafetyError as error:
        print(f"error: {error}".replace("\n", " "), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    import moe_safety
    from moe_safety.pipeline import STAGES

    parser = argparse.ArgumentParser(prog="moe-safety", description=moe_safety.__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, summary: str, run: Callable[[argparse.Namespace], object]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run, stage=name)
        return command

    for name, (_, summary) in STAGES.items():
        _add_config_arguments(add(name, summary, _run_stage))
    _add_config_arguments(add("run", "all of the above, skipping what is already done", _run_all))

    demo = add("demo", "`run` on the built-in demo model", _demo)
    demo.add_argument("--out", metavar="DIR", default="runs/demo", help="run directory (runs/demo)")

    inspect = add("inspect", "print a model's MoE layers and a memory forecast", _inspect)
    inspect.add_argument("model", metavar="MODEL", help="a folder, a hub id, or `demo`")
    inspect.add_argument("--top-k", type=int, help="experts that selective training repairs; 50 unless given")
    inspect.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    inspect.add_argument("--json", action="store_true")

    calibrate = add("calibrate-judge", "score the configured judge on human labels", _calibrate)
    calibrate.add_argument("file", metavar="FILE.csv", help="columns prompt, response, label (refused or complied)")
    calibrate.add_argument("--json", action="store_true")
    return parser


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
        run_one(args.stage, config, force=args.force)


def _run_all(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_all

    if config := _configured(args):
        run_all(config, force=args.force)


def _demo(args: argparse.Namespace) -> None:
    from moe_safety.config import load_config
    from moe_safety.pipeline import run_all

    run_all(load_config(DEMO_CONFIG, [f"run_dir={json.dumps(args.out)}"]))


def _inspect(args: argparse.Namespace) -> None:
    from moe_safety.config import ModelConfig
    from moe_safety.models.describe import describe
    from moe_safety.models.inspect import inspect
    from moe_safety.models.load import model_path

    path = model_path(ModelConfig(name=args.model))
    inspection = inspect(path, trust_remote_code=args.trust_remote_code, chosen=args.top_k)
    print(json.dumps(inspection.to_dict(), indent=1) if args.json else describe(inspection))


def _calibrate(args: argparse.Namespace) -> None:
    from moe_safety.config import JudgeConfig
    from moe_safety.judges import make_judge
    from moe_safety.judges.calibrate import calibrate_file

    calibration = calibrate_file(args.file, make_judge(JudgeConfig()))
    print(calibration.to_json() if args.json else calibration.to_text())
