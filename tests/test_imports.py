"""Imports go one way: rooms in the order of their work, modules without circles, other rooms by their fronts, and
fronts so light that a command line starts at once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
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

HEAVY = {"deepspeed", "matplotlib", "numpy", "pandas", "pyarrow", "ray", "scipy", "torch", "transformers"}
"""What takes time to import. Fronts do without where they can, so modules that need more of it than their room's front
are imported by their own names."""

_OF_FORMULAS = {"numpy", "pyarrow"}
"""What a score's formula may need at once."""

_BY_STRING = re.compile(r"(moe_safety(?:\.\w+)+)(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """One import, by statement or by string."""

    by: str
    of: str
    at_once: bool
    """Whether it runs when the module is imported, and not in a function or for annotations alone."""

    @property
    def rooms(self) -> tuple[str, str]:
        return room_of(self.by), room_of(self.of)


def room_of(module: str) -> str:
    return module.split(".")[1]


@cache
def modules() -> dict[str, Path]:
    """Every module's file, by its name."""
    found = {".".join(file.relative_to(FOLDER.parent).with_suffix("").parts): file for file in FOLDER.rglob("*.py")}
    return {name.removesuffix(".__init__"): file for name, file in sorted(found.items())}


@cache
def imports() -> list[Import]:
    """All but those of `moe_safety/__init__.py`, which names what importers may use and imports nothing itself."""
    return [
        Import(module, name, at_once)
        for module, file in modules().items()
        for node, at_once in _nodes(ast.parse(file.read_text()))
        for name in _named_in(node)
        if module != "moe_safety" and name not in (module, "moe_safety")
    ]


def _nodes(node: ast.AST, at_once: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below, and whether they run at once; entry point groups, which are named like rooms, are left out."""
    yield node, at_once
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("Registry"):
        return
    later = isinstance(node, ast.FunctionDef | ast.Lambda) or (
        isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    for child in ast.iter_child_nodes(node):
        yield from _nodes(child, at_once and not later)


def _named_in(node: ast.AST) -> Iterator[str]:
    """The modules of this package that the node names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules())
    elif isinstance(node, ast.ImportFrom) and node.module in modules():
        package = str(node.module)
        names = {alias.name for alias in node.names} - _offered(package)
        parts = {f"{package}.{name}" for name in names} & modules().keys()
        yield from parts
        if len(parts) < len(node.names):
            yield package
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_folder":
        folder = ast.literal_eval(node.args[0])
        yield from (name for name in modules() if name.startswith(f"{folder}."))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        written = _BY_STRING.fullmatch(node.value)
        if written and written[1] in modules():
            yield written[1]


@cache
def _offered(package: str) -> set[str]:
    """What a package's front imports: a function of it may have the name of its module."""
    front = ast.walk(ast.parse(modules()[package].read_text()))
    return {alias.name for node in front if isinstance(node, ast.ImportFrom) for alias in node.names}


def runs(one: Import) -> Iterator[str]:
    """What the import runs: the module, and the front of each package around it that the importer stands outside of."""
    parts = one.of.split(".")
    for end in range(2, len(parts) + 1):
        name = ".".join(parts[:end])
        if name == one.of or not f"{one.by}.".startswith(f"{name}."):
            yield name


@cache
def needs(module: str) -> set[str]:
    """The heavy packages that importing a module imports."""
    found: set[str] = set()
    seen, ahead = {module}, [module]
    while ahead:
        packages, ours = _at_once()[ahead.pop()]
        found |= packages & HEAVY
        ahead += ours - seen
        seen |= ours
    return found


@cache
def _at_once() -> dict[str, tuple[set[str], set[str]]]:
    """What runs when each module is imported: packages, and modules of ours."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for module, file in modules().items():
        nodes = [node for node, at_once in _nodes(ast.parse(file.read_text())) if at_once]
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        found[module] = {name.split(".")[0] for name in names}, set()
    for one in imports():
        if one.at_once:
            found[one.by][1].update(runs(one))
    return found


def front_of(module: str) -> str:
    """Where others import from: `models` has a front for each subject, other rooms have one."""
    return module.rpartition(".")[0] if room_of(module) == "models" else ".".join(module.split(".")[:2])


def is_past_front(one: Import) -> bool:
    """Whether it takes from a module what the front of its room could offer as well."""
    in_package = one.of.count(".") > 1 and modules()[one.of].name != "__init__.py"
    return one.rooms[0] != one.rooms[1] and in_package and needs(one.of) <= needs(front_of(one.of))


def test_every_room_has_a_place_in_the_order():
    placed = [room for line in ROOMS for room in line]
    assert len(placed) == len(set(placed))
    assert {room_of(name) for name in modules() if "." in name} <= set(placed)


def test_no_room_imports_a_later_one():
    place = {room: line for line, rooms in enumerate(ROOMS) for room in rooms}
    later = {one for one in imports() if place[one.rooms[1]] > place[one.rooms[0]]}
    assert later == set()


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(error.args[1]))


def graph() -> dict[str, set[str]]:
    """What each module imports, whenever it does; but a front that opens its own room later waits for nothing."""
    found: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.at_once or not one.of.startswith(f"{one.by}."):
            found[one.by].update(runs(one))
    return found


def test_other_rooms_are_used_by_their_fronts():
    assert [one for one in imports() if is_past_front(one)] == []


def test_declarations_are_known_without_what_runs_them():
    rooms = "moe_safety.everything, moe_safety.models.families"
    code = f"import sys, {rooms}; print(sorted({HEAVY - _OF_FORMULAS} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=FOLDER.parent)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
