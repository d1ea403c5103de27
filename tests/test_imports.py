"""Imports go one way: rooms in the order of their work, modules without circles, other rooms by their fronts, and
fronts so light that a command line starts at once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import moe_safety

FOLDER = Path(moe_safety.__file__).parent

ROOMS = [
    {"errors"},
    {"checks", "intervals", "stopping"},
    {"config"},
    {"rundir"},
    {"jobs"},
    {"pipeline"},
    {"models"},
    {"inputs"},
    {"judges"},
    {"generation"},
    {"batches"},
    {"routing", "gradients", "effects"},
    {"scores"},
    {"identify"},
    {"checkpoints"},
    {"arms", "train"},
    {"evaluate"},
    {"tune"},
    {"report"},
    {"export"},
    {"everything"},
    {"cli"},
    {"__main__"},
]
"""A room imports from those above it, never from those below; two that share a line may do so one way."""

_STAGES_STAND_IN = ["inputs", "batches", "routing", "gradients", "effects", "identify", "train", "evaluate", "report"]
BACKWARDS = {("pipeline", room) for room in _STAGES_STAND_IN}
"""What goes backwards yet: until stages register themselves, `pipeline` names where each stands."""

PAST_FRONTS = {
    "batches": 29,
    "checkpoints": 3,
    "config": 24,
    "effects": 9,
    "evaluate": 16,
    "gradients": 10,
    "identify": 58,
    "inputs": 4,
    "jobs": 11,
    "judges": 1,
    "models": 94,
    "report": 1,
    "routing": 8,
    "rundir": 13,
    "train": 10,
    "tune": 3,
}
"""How many imports reach past each room's front yet, into one of its modules. Lower these; never raise them."""

_BY_STRING = re.compile(r"(moe_safety(?:\.\w+)+)(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """One import, by statement or by string, at the top of a module or inside a function."""

    by: str
    of: str

    @property
    def rooms(self) -> tuple[str, str]:
        return self.by.split(".")[1], self.of.split(".")[1]


@cache
def modules() -> dict[str, Path]:
    """Every module's file, by its name."""
    found = {".".join(file.relative_to(FOLDER.parent).with_suffix("").parts): file for file in FOLDER.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in sorted(found.items())}


@cache
def imports() -> list[Import]:
    """All but those of `moe_safety/__init__.py`, which names what importers may use and imports nothing itself."""
    return [
        Import(module, name)
        for module, file in modules().items()
        for name in _named_in(ast.parse(file.read_text()))
        if module != "moe_safety" and name not in (module, "moe_safety")
    ]


def _named_in(tree: ast.AST) -> Iterator[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    groups = [arg for call in calls if ast.unparse(call.func).startswith("Registry") for arg in call.args]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_folder":
            folder = ast.literal_eval(call.args[0])
            yield from (name for name in modules() if name.rpartition(".")[0] == folder)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("moe_safety."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moe_safety"):
            package = str(node.module)
            names = {alias.name for alias in node.names} - _offered(package)
            parts = {f"{package}.{name}" for name in names} & modules().keys()
            yield from parts
            if len(parts) < len(node.names):
                yield package
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in groups:
            written = _BY_STRING.fullmatch(node.value)
            if written and written[1] in modules():
                yield written[1]


@cache
def _offered(package: str) -> set[str]:
    """What a package's front imports: a function of it may have the name of its module."""
    front = ast.walk(ast.parse(modules()[package].read_text()))
    return {alias.name for node in front if isinstance(node, ast.ImportFrom) for alias in node.names}


def _runs(one: Import) -> Iterator[str]:
    """What the import runs: the module, and the front of each package around it that the importer stands outside of."""
    parts = one.of.split(".")
    for end in range(2, len(parts) + 1):
        name = ".".join(parts[:end])
        if name == one.of or not f"{one.by}.".startswith(f"{name}."):
            yield name


def test_every_room_has_a_place_in_the_order():
    placed = [room for line in ROOMS for room in line]
    assert len(placed) == len(set(placed))
    assert {name.split(".")[1] for name in modules() if "." in name} <= set(placed)


def test_no_room_imports_a_later_one():
    place = {room: line for line, rooms in enumerate(ROOMS) for room in rooms}
    later = {one for one in imports() if place[one.rooms[1]] > place[one.rooms[0]]}
    assert {one for one in later if one.rooms not in BACKWARDS} == set()
    assert {one.rooms for one in later} == BACKWARDS, "fewer go backwards than are excused"


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.rooms not in BACKWARDS:
            graph[one.by].update(_runs(one))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(error.args[1]))


def test_other_rooms_are_used_by_their_fronts():
    past = Counter(
        one.rooms[1]
        for one in imports()
        if one.rooms[0] != one.rooms[1] and modules()[one.of].name != "__init__.py" and one.of.count(".") > 1
    )
    assert {room: count for room, count in past.items() if count > PAST_FRONTS.get(room, 0)} == {}


def test_declarations_are_known_without_what_runs_them():
    heavy = ["torch", "ray", "matplotlib", "transformers"]
    code = f"import sys, moe_safety.everything; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
