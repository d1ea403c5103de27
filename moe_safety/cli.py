"""The command line. Parsing and configuration need neither torch nor Ray, so help and mistakes are told at once."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from moe_safety.errors import MoeSafetyError

STAGES: dict[str, tuple[str, str]] = {
    "prepare": ("moe_safety.inputs.stage:prepare", "read attack, benign and control files, split by goal"),
    "respond": ("moe_safety.batches.respond:respond", "let the base model answer, judge, drop pairs that do not hold"),
    "compose": ("moe_safety.batches.compose:compose", "build the mixed batches with training targets"),
    "capture": ("moe_safety.routing.capture:capture", "count which experts every prompt is routed to (Ray Data)"),
    "identify": ("moe_safety.identify.stage:identify", "risk differences, statistics, selection, masks"),
}
"""Commands that take a configuration: where their function stands, and what they do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; a user's mistake is one line on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except MoeSafetyError as error:
        print(f"error: {error}".replace("\n", " "), file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="moe-safety", description=import_module("moe_safety").__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, summary) in STAGES.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("config", metavar="CONFIG.yaml")
        command.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", dest="overrides")
        command.add_argument("--address", metavar="ADDR", help="Ray cluster to run on; the local machine unless given")
        command.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
        command.add_argument("--force", action="store_true", help="do it again, whatever stands there")
        command.set_defaults(run=_run_stage, stage=name)
    inspect = commands.add_parser("inspect", help="print a model's MoE layers and a memory forecast")
    inspect.add_argument("model", metavar="MODEL", help="a folder, a hub id, or `demo`")
    inspect.add_argument("--top-k", type=int, help="experts that selective training repairs; 50 unless given")
    inspect.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    inspect.add_argument("--json", action="store_true")
    inspect.set_defaults(run=_inspect)
    calibrate = commands.add_parser("calibrate-judge", help="score the rule judge on human labels")
    calibrate.add_argument("file", metavar="FILE.csv", help="columns prompt, response, label (refused or complied)")
    calibrate.add_argument("--json", action="store_true")
    calibrate.set_defaults(run=_calibrate)
    return parser


def _run_stage(args: argparse.Namespace) -> None:
    from moe_safety.config import dump_config, load_config

    config = load_config(args.config, args.overrides)
    if args.dry_run:
        print(dump_config(config), end="")
        return
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    _resolve(STAGES[args.stage][0])(config, force=args.force)


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
    print(json.dumps(calibration.to_json(), indent=1) if args.json else calibration.describe())


def _resolve(target: str) -> Any:
    module, function = target.split(":")
    return getattr(import_module(module), function)
