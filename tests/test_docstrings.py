"""Every method of the library that others call says what it does; ruff asks the same of modules, classes, functions."""

import ast
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "moe_safety"


def classes():
    """The public classes of modules, and where they stand."""
    for path in sorted(LIBRARY.rglob("*.py")):
        for one in ast.parse(path.read_text()).body:
            if isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
                yield f"{path.relative_to(LIBRARY)}: {one.name}", one


def methods(one):
    """The public methods of a class."""
    return [each for each in one.body if isinstance(each, ast.FunctionDef) and not each.name.startswith("_")]


def test_a_method_says_what_it_does_or_what_it_stands_in_for_does():
    """One that does for its class what a protocol or a base class describes need not say it again."""
    named = {one.name for _, one in classes()}
    found = [(where, one, method) for where, one in classes() for method in methods(one)]
    silent = []
    described = {method.name for _, one, method in found if ast.get_docstring(method)}
    promised = {method.name for _, one, method in found if "Protocol" in map(ast.unparse, one.bases)}
    for where, one, method in found:
        excused = promised | (described if named & set(map(ast.unparse, one.bases)) else set())
        if not ast.get_docstring(method) and method.name not in excused & described:
            silent.append(f"{where}.{method.name}")
    assert silent == []
