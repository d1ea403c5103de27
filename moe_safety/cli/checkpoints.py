"""`verify` and `delta`: what differs between two checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from moe_safety.cli.commands import Commands


def add_commands(commands: Commands) -> None:
    """Adds `verify` and `delta` to the command line."""
    verify = commands.add(
        "verify",
        "prove that nothing but the selected experts changed",
        _verify,
        group="checkpoints",
        example="moe-safety verify BASE runs/x/train/selective-causal/delta.safetensors \\\n"
        "      --selection runs/x/selection.json",
    )
    _add_pair(verify, "TUNED|DELTA", "a checkpoint folder, or a delta's file; or a URI")
    verify.add_argument("--selection", metavar="FILE", nargs="+", default=[], help="one for each round of training")
    verify.add_argument("--routers", action="store_true", help="routers were trained too")
    verify.add_argument("--arm", metavar="NAME", help="what was trained, where that is not selected experts")
    verify.add_argument("--json", action="store_true", help="print all that was found as JSON")

    parts = commands.add("delta", "what changed, as a file tied to the base", group="checkpoints", example=_EXTRACT)
    delta = Commands(parts)
    extract = delta.add("extract", "write what changed from BASE to TUNED", _extract, example=_EXTRACT)
    _add_pair(extract)
    extract.add_argument("out", metavar="OUT.safetensors", help="the delta, a new file, or its URI")

    apply = delta.add(
        "apply",
        "write the tuned checkpoint",
        _apply,
        example="moe-safety delta apply BASE runs/x/train/selective-causal/delta.safetensors tuned",
    )
    apply.add_argument("base", metavar="BASE", help=_MODEL)
    revert = delta.add(
        "revert",
        "write the base again",
        _revert,
        example="moe-safety delta revert tuned runs/x/train/selective-causal/delta.safetensors base",
    )
    revert.add_argument("tuned", metavar="TUNED", help=_CHECKPOINT)
    for command in (apply, revert):
        command.add_argument("delta", metavar="DELTA.safetensors", help="what `delta extract` or `train` left")
        command.add_argument("out", metavar="OUT", help="a new folder, or its URI")
    parts.epilog = "\n".join([*delta.listed(), parts.epilog or ""])


_EXTRACT = "moe-safety delta extract BASE tuned delta.safetensors"
_MODEL = "a folder, a hub id, or `demo`"
_CHECKPOINT = "a checkpoint folder, or its URI"


def _add_pair(command: argparse.ArgumentParser, second: str = "TUNED", told: str = _CHECKPOINT) -> None:
    command.add_argument("base", metavar="BASE", help=_MODEL)
    command.add_argument("tuned", metavar=second, help=told)
    command.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")


def _folder(name: str) -> Path:
    from moe_safety.config import ModelConfig
    from moe_safety.models.io import model_folder

    return model_folder(ModelConfig(name=name))


def _fetched(name: str) -> Path:
    """A checkpoint's folder or a delta's file, which may stand in a store. Asked first: torch, which takes seconds, is
    imported for nothing that is not there."""
    from moe_safety.errors import InputError
    from moe_safety.rundir import cache_folder, fetched, fetched_file

    if "://" not in name:
        if not Path(name).exists():
            raise InputError("no such file or folder", file=name)
        return Path(name)
    is_file = name.partition("?")[0].endswith(".safetensors")
    return (fetched_file if is_file else fetched)(name, cache_folder() / "models")


def _selected(base: Path, files: list[str]) -> set[tuple[int, int]]:
    """Every expert that one of the selections names. Later rounds select on what earlier ones trained, the first on
    the base itself."""
    from moe_safety.config import ModelConfig
    from moe_safety.errors import InputError
    from moe_safety.identify import read_selection
    from moe_safety.models.io import model_fingerprint
    from moe_safety.rundir import RunDir

    places = [file.rpartition("/") for file in files]
    selections = [read_selection(RunDir(folder + slash or "."), name) for folder, slash, name in places]
    if model_fingerprint(ModelConfig(name=str(base))) not in {selection.model for selection in selections}:
        raise InputError(f"was made for another model than {base}", file=files[0])
    return {expert for selection in selections for expert in selection.union()}


def _may_change(arm: str | None) -> frozenset[str]:
    import moe_safety.everything  # noqa: F401 - declares the arms
    from moe_safety.arms import ARMS, SELECTED
    from moe_safety.errors import InputError

    if arm is None:
        return frozenset({SELECTED})
    if ARMS.get(arm).trains_all:
        raise InputError(f"the arm '{arm}' may change everything, so there is nothing to verify")
    return ARMS.get(arm).may_change


def _parameters(base: Path, parts: frozenset[str], chosen: set[tuple[int, int]], trust_remote_code: bool) -> set[str]:
    """What these parts of the model are, by name."""
    from moe_safety.arms import names_of
    from moe_safety.models import inspect_model
    from moe_safety.models.io.skeleton import build_skeleton

    model = build_skeleton(str(base), trust_remote_code=trust_remote_code)
    return names_of(parts, model, inspect_model(model), sorted(chosen))


def _verify(args: argparse.Namespace) -> int:
    tuned = _fetched(args.tuned)
    from moe_safety.arms import SELECTED, SIZED
    from moe_safety.checkpoints import describe, verify
    from moe_safety.errors import InputError

    base = _folder(args.base)
    may_change = _may_change(args.arm) | ({"routers"} if args.routers else set())
    reads = not may_change.isdisjoint({SELECTED, *SIZED})
    if reads and not args.selection:
        raise InputError("takes --selection FILE, which says what experts may differ, or how much")
    chosen = _selected(base, args.selection) if reads else set()
    report = verify(
        base,
        tuned,
        chosen if SELECTED in may_change else (),
        "routers" in may_change,
        parameters=_parameters(base, may_change - {SELECTED, "routers"}, chosen, args.trust_remote_code),
        trust_remote_code=args.trust_remote_code,
    )
    print(json.dumps(report.to_dict(), indent=1) if args.json else describe(report))
    return int(bool(report.violations))


def _extract(args: argparse.Namespace) -> None:
    tuned = _fetched(args.tuned)
    from moe_safety.checkpoints import describe, extract_delta

    print(describe(extract_delta(_folder(args.base), tuned, args.out, trust_remote_code=args.trust_remote_code)))


def _apply(args: argparse.Namespace) -> None:
    delta = _fetched(args.delta)
    from moe_safety.checkpoints import apply_delta

    apply_delta(_folder(args.base), delta, args.out)


def _revert(args: argparse.Namespace) -> None:
    tuned, delta = _fetched(args.tuned), _fetched(args.delta)
    from moe_safety.checkpoints import revert_delta

    revert_delta(tuned, delta, args.out)
