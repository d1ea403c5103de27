"""The stages, `run` and `demo`: commands that a configuration decides."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_safety.cli.commands import Commands
from moe_safety.cli.ending import lines_of_sweep, next_lines, took_lines
from moe_safety.cli.log import logged
from moe_safety.errors import InputError

if TYPE_CHECKING:
    from moe_safety.config import Config
    from moe_safety.evaluate.gate import Limit

DEMO_CONFIG = Path(__file__).parents[1] / "models" / "demo" / "demo.yaml"


def add_commands(commands: Commands) -> None:
    """Adds a command for each stage, and those that run several."""
    import moe_safety.everything  # noqa: F401 - declares the stages
    from moe_safety.pipeline import STAGES, in_order

    for stage in in_order(STAGES):
        run = {"compare": _compare, "report": _report}.get(stage.name, _run_stage)
        command = commands.add(
            stage.name,
            stage.summary,
            run,
            group="stages, in their order",
            example=_EXAMPLES.get(stage.name, f"moe-safety {stage.name} my-run.yaml"),
        )
        _add_config_arguments(command)
        if stage.name == "compare":
            command.add_argument("--gate", metavar="LIMITS", help=_GATE)
            command.add_argument("--wide", action="store_true", help="print all rates, wider than 80 columns")
        if stage.name == "report":
            command.add_argument("--show-text", action="store_true", help="show prompts and answers, harmful ones too")
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


_EXAMPLES = {
    "respond": "moe-safety respond my-run.yaml --set respond.recorded=false",
    "identify": "moe-safety identify my-run.yaml --set identify.method=causal --set identify.top_k=20",
    "train": "moe-safety train my-run.yaml --set train.arm=selective-causal",
    "evaluate": "moe-safety evaluate my-run.yaml --set train.arm=selective-causal",
    "compare": "moe-safety compare my-run.yaml --gate 'asr<=0.05,over_refusal<=0.02'",
    "report": "moe-safety report my-run.yaml --show-text",
}
_GATE = (
    "such as asr<=0.05,over_refusal<=0.02: exit 1 when an arm that the configuration names, the base apart, misses one"
)


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


def _run_stage(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_one

    if config := _configured(args):
        with _saying(args, config) as done:
            done[args.command] = run_one(args.command, config, force=args.force)


def _compare(args: argparse.Namespace) -> int:
    config = _configured(args)
    if config is None:
        return 0
    from moe_safety.arms import ARMS
    from moe_safety.evaluate.gate import parse_gate
    from moe_safety.pipeline import run_one

    limits = parse_gate(args.gate) if args.gate is not None else []
    # The untouched base is what the others are measured against: it always misses.
    hardened = [name for name in config.compare.arms if ARMS.get(name).hardens]
    if limits and not hardened:
        raise InputError("names no arm beside the base, so there is nothing to hold to the gate", key="compare.arms")
    with _saying(args, config) as done:
        done["compare"] = run_one("compare", config, force=args.force, wide=args.wide)
        return int(bool(limits) and not _keeps(config, args.gate, limits, hardened))


def _keeps(config: Config, gate: str, limits: Sequence[Limit], hardened: Sequence[str]) -> bool:
    """Whether all arms keep the gate, which is said."""
    from moe_safety.evaluate.compare import comparison_of
    from moe_safety.evaluate.gate import misses
    from moe_safety.rundir import RunDir

    named = [arm for arm in RunDir(config.run_dir).read_json(comparison_of(config)) if arm["arm"] in hardened]
    missed = misses(limits, named)
    print("\n".join(missed) or f"gate: {len(named)} arms keep {gate}", file=sys.stderr if missed else sys.stdout)
    return not missed


def _report(args: argparse.Namespace) -> None:
    from moe_safety.pipeline import run_one

    if config := _configured(args):
        with _saying(args, config) as done:
            done["report"] = run_one("report", config, force=args.force, show_text=args.show_text)


def _tune(args: argparse.Namespace) -> None:
    import moe_safety.everything  # noqa: F401 - a sweep names what it declares
    from moe_safety.config import dump_sweep, load_sweep

    file = load_sweep(args.config, args.overrides)
    if args.dry_run:
        print(dump_sweep(file), end="")
        return
    if args.address:
        os.environ["RAY_ADDRESS"] = args.address
    from moe_safety.tune.stage import tune

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
