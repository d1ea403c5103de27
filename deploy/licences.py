"""Writes docs/licences.md, from what the installed packages of the lock say of themselves. `make lock` runs it."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

Written by `make lock`: every package of `requirements.lock`, with the licence that it names itself. moe-safety is
Apache-2.0; it is installed beside these packages and contains none of them. `pip install moe-safety` brings those that
it needs, without what is for development alone. `requirements-cuda.lock` holds NVIDIA's CUDA libraries under NVIDIA's
own licences, and triton (MIT).

| package | licence |
|---|---|
"""


def locked() -> list[str]:
    """The names in the lock."""
    return sorted(set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)))


def licence(name: str) -> str:
    """The expression of its metadata; of older ones the classifiers, or the field's first line."""
    said = distribution(name).metadata
    classifiers = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if one.startswith("License ::")]
    return said["License-Expression"] or ", ".join(classifiers) or (said["License"] or "").partition("\n")[0]


def main() -> None:
    """Writes the page."""
    rows = [f"| {name} | {licence(name)} |\n" for name in locked()]
    PAGE.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
