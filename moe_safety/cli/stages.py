"""The stages, `run` and `demo`: commands that a configuration decides."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_safety.cli.commands import Commands
from moe_safety.cli.ending import lines_of_sweep, next_lines, took_lines
from moe_safety.cli.log import logged

if TYPE_CHECKING:
    from moe_safety.config import Config
    from moe_safety.pipeline import Stage

DEMO_CONFIG = Path(__file__).parents[1] / "models" / "demo" / "demo.yaml"


def add_commands(commands: Commands) -> None:
    """Adds a command for each stage, and those that run several."""
    import moe_safety.everything  # noqa: F401 - declares the stages
    from moe_safety.pipeline import STAGES, in_order

    for stage in in_order(STAGES):
        command = commands.add(
            stage.name,
            stage.summary,
            _run_stage,
            group="stages, in their order",
            example=f"moe-safety {stage.name} my-run.yaml {stage.example}".rstrip(),
            more=_described(stage),
        )
        _add_config_arguments(command)
        for flag in stage.flags:
            kind: dict[str, Any] = {"metavar": flag.metavar} if flag.metavar else {"action": "store_true"}
            command.add_argument(f"--{flag.name.replace('_', '-')}", help=flag.about, **kind)
    every = commands.add(
        "run",
        "every stage that the configuration needs, skipping what is done",
        _run_all,
        group="whole runs",
        example="moe-safety run my-run.yaml --set identify.top_k=20",
    )
    _add_config_arguments(every)
    sweep = commands.add(
        "tune",
        "a sweep over selections or trainings (Ray Tune)",
        _tune,
        group="whole runs",
        example="moe-safety tune tune_configs/demo.yaml --set sweep.trials=4",
    )
    _add_config_arguments(sweep, "SWEEP.yaml")

    demo = commands.add(
        "demo", "`run` on the built-in demo model", _demo, group="whole runs", example="moe-safety demo --out runs/demo"
    )
    demo.add_argument("--out", metavar="DIR", default="runs/demo", help="run directory (runs/demo)")
    _add_voice(demo)


def _described(stage: Stage) -> str:
    """What it reads, writes and needs."""
    reads = f"reads {', '.join(stage.reads())}; " if stage.reads() else ""
    section = f"; settings: `{stage.section}`" if stage.section else ""
    told = f"{reads}writes {', '.join(stage.writes)}{section}{'; loads the model' * stage.needs_model}."
    return told[0].upper() + told[1:]


def _add_config_arguments(command: argparse.ArgumentParser, metavar: str = "CONFIG.yaml") -> None:
    command.add_argument("config", metavar=metavar, help="what to do, and where: docs/configuration.md")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        help="change a value of the configuration, such as identify.top_k=20 or train.labels='[unsafe]' (values are "
        "YAML); may be given several times; docs/configuration.md has all keys, --dry-run shows what becomes of them",
    )
    command.add_argument("--address", metavar="ADDR", help="Ray cluster to run on; the local machine unless given")
    command.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    command.add_argument("--force", action="store_true", help="do it again; after a change, only what it concerns")
    _add_voice(command)


def _add_voice(command: argparse.ArgumentParser) -> None:
    voice = command.add_mutually_exclusive_group()
    voice.add_argument("--quiet", action="store_true", help="say only warnings and errors; log.txt has the rest")
    voice.add_argument("--verbose", action="store_true", help="say notices too, and where an error came from")


def _configured(args: argparse.Namespace) -> Config | None:
    """The configuration, or nothing where it was only to be shown."""
    from moe_safety.config import dump_config
    from moe_safety.everything import load_config

    config = load_config(args.config, args.overrides)
    if args.dry_run:
        print(dump_config(config), end="")
        return None
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    return config


@contextmanager
def _saying(args: argparse.Namespace, config: Config) -> Iterator[dict[str, Any]]:
    """Takes the manifests of what runs inside, by stage, and says at the end what they took and what comes next. All is
    logged in the run directory."""
    done: dict[str, Any] = {}
    with logged(config.run_dir, quiet=args.quiet, verbose=args.verbose):
        yield done
        for line in (*took_lines(done), *next_lines(config, getattr(args, "config", ""), list(done)[-1])):
            print(line, flush=True)


def _run_stage(args: argparse.Namespace) -> int:
    from moe_safety.pipeline import STAGES, run_one

    config = _configured(args)
    if config is None:
        return 0
    options = {flag.name: getattr(args, flag.name) for flag in STAGES.get(args.command).flags}
    with _saying(args, config) as done:
        done[args.command] = run_one(args.command, config, force=args.force, **options)
    return int(done[args.command].get("failed", False))


def _tune(args: argparse.Namespace) -> None:
    import moe_safety.everything  # noqa: F401 - a sweep names what it declares
    from moe_safety.config import dump_sweep, load_sweep

    file = load_sweep(args.config, args.overrides)
    if args.dry_run:
        print(dump_sweep(file), end="")
        return
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    from moe_safety.tune.tune import tune

    with logged(file.config.run_dir, quiet=args.quiet, verbose=args.verbose):
        done = {"tune": tune(file, force=args.force)}
        for line in (*took_lines(done), *lines_of_sweep(file)):
            print(line, flush=True)


def _run_all(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_all

    if config := _configured(args):
        with _saying(args, config) as done:
            done.update(run_all(config, force=args.force))


def _demo(args: argparse.Namespace) -> None:
    from moe_safety.everything import load_config
    from moe_safety.pipeline import run_all

    config = load_config(DEMO_CONFIG, [f"run_dir={json.dumps(args.out)}"])
    with _saying(args, config) as done:
        done.update(run_all(config))
