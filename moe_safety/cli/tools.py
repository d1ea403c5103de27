"""Commands on one thing at a time: a model, a judge, a run directory."""

from __future__ import annotations

import argparse
import json

from moe_safety.cli.commands import Commands


def add_commands(commands: Commands) -> None:
    """Adds `inspect`, `calibrate-judge` and `export` to the command line."""
    inspect = commands.add(
        "inspect",
        "print a model's MoE layers and a memory forecast",
        _inspect,
        group="looking",
        example="moe-safety inspect allenai/OLMoE-1B-7B-0125-Instruct",
    )
    inspect.add_argument("model", metavar="MODEL", help="a folder, a hub id, or `demo`")
    inspect.add_argument("--top-k", type=int, help="experts that selective training repairs; 50 unless given")
    inspect.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    inspect.add_argument("--json", action="store_true", help="print it as JSON")

    calibrate = commands.add(
        "calibrate-judge",
        "score the configured judge on human labels",
        _calibrate,
        group="looking",
        example="moe-safety calibrate-judge labels.csv --config my-run.yaml --question harm",
    )
    calibrate.add_argument(
        "file", metavar="FILE.csv", help="columns prompt, response, label (refused, complied, partial), type, goal"
    )
    calibrate.add_argument(
        "--question",
        choices=("refusal", "harm"),
        default="refusal",
        help="which judge is scored; of harm, labels are harmful, harmless, partial, and every row has its goal",
    )
    calibrate.add_argument("--config", metavar="CONFIG.yaml", help="whose `judges` are meant; the rules unless given")
    calibrate.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        help="change a value of the configuration; may be given several times",
    )
    calibrate.add_argument("--json", action="store_true", help="print it as JSON, with the name of the judge")

    export = commands.add(
        "export",
        "write the earlier scripts' files from a run directory",
        _export,
        group="looking",
        example="moe-safety export runs/demo --format pickle --out old",
    )
    export.add_argument("run_dir", metavar="RUN_DIR", help="of a run")
    export.add_argument("--format", required=True, choices=("pickle",), help="the only one")
    export.add_argument("--out", metavar="DIR", help="where to; `export` in the run directory unless given")


def path_of(model: str) -> str:
    """The folder or hub id of a model that can be had, before transformers, which takes seconds, is imported."""
    from moe_safety.config import ModelConfig
    from moe_safety.models.io import check_reachable, model_path

    path = model_path(ModelConfig(name=model))
    check_reachable(path, None)
    return path


def _inspect(args: argparse.Namespace) -> None:
    path = path_of(args.model)
    from moe_safety.models.inspection.describe import describe
    from moe_safety.models.inspection.inspect import inspect

    inspection = inspect(path, trust_remote_code=args.trust_remote_code, chosen=args.top_k)
    print(json.dumps(inspection.to_dict(), indent=1) if args.json else describe(inspection))


def _calibrate(args: argparse.Namespace) -> None:
    from moe_safety.config import JudgesConfig
    from moe_safety.errors import InputError
    from moe_safety.everything import load_config
    from moe_safety.judges import judge_identity, make_judge
    from moe_safety.judges.calibration.calibrate import calibrate_file

    if args.overrides and not args.config:
        raise InputError("--set changes a configuration, so it needs --config")
    judges = load_config(args.config, args.overrides).judges if args.config else JudgesConfig()
    key = f"judges.{args.question}"
    if (settings := judges.asked.get(args.question)) is None:
        raise InputError("no judge is configured for this question; give --config", file=args.config, key=key)
    calibration = calibrate_file(args.file, make_judge(settings, key), args.question)
    identity = judge_identity(settings, args.question)
    print(calibration.to_json(identity) if args.json else calibration.to_text())


def _export(args: argparse.Namespace) -> None:
    from moe_safety.export import export_pickles

    export_pickles(args.run_dir, args.out)
