"""Every command, flag, key, file, test and link that the documents name is there, and their Python runs."""

from __future__ import annotations

import argparse
import re

import pytest
import yaml

import moe_safety.everything  # noqa: F401 - declares the names
from moe_safety import cli
from moe_safety.config import ARMS, ENGINES, LOSSES, SCORES
from tests.documents import EXAMPLES, PAGES, ROOT, blocks, is_known, leaves, spans

LINKED = PAGES | EXAMPLES | {"CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text()}
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
RECIPES = set(re.findall(r"^### [^\n]*: `(\S+\.py)`", PAGES["CONTRIBUTING.md"], re.MULTILINE))
SECTIONS = (
    *("model", "data", "respond", "judges", "batches", "capture", "gradients", "effects", "identify", "train"),
    *("evaluate", "compare", "sweep"),
)


def commands(parser, path=()):
    """Every command with its flags."""
    yield path, set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, (*path, name))


COMMANDS = dict(commands(cli.make_parser()))


def lines_of_code(text):
    """Lines of console blocks, continued ones together, and code in running text."""
    consoles = "\n".join(blocks(text, "console")).replace("\\\n", " ")
    return [line.removeprefix("$ ").partition("    #")[0] for line in consoles.splitlines()] + spans(text)


def slug(heading):
    """A heading's anchor."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", LINKED[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in {slug(one) for one in re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)}, target


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_flags_are_there(page):
    for line in lines_of_code(PAGES[page]):
        for found in re.finditer(r"^(?:\S*/)?moe-safety ([a-z][a-z-]*)(?: ([a-z]+))?([^|;]*)", line):
            words = [word for word in found.groups()[:2] if word]
            path = tuple(words) if tuple(words) in COMMANDS else tuple(words[:1])
            assert path in COMMANDS, line
            flags = set(re.findall(r"(?<=\s)--[a-z-]+", found[0]))
            assert flags <= COMMANDS[path] or path == ("delta",), line
        for name in re.findall(r"(?:^|\s)make ([a-z]+)\b", line):
            assert name in TARGETS, line
        for module in re.findall(r"python -m (benchmarks[\w.]*)", line):
            place = ROOT / module.replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), line


@pytest.mark.parametrize("page", PAGES)
def test_files_and_tests_are_there(page):
    folders = "docs|tests|configs|tune_configs|benchmarks|examples|deploy|ray_jobs|moe_safety"
    for code in lines_of_code(PAGES[page]):
        for name in re.findall(rf"(?<![\w/.])((?:{folders})/[\w/.-]*\w)", code):
            assert name in RECIPES or "NAME" in name or (ROOT / name).exists(), name
        for name in re.findall(r"\btest(?:_[a-z0-9]+){3,}\b(?!\.py|/)", code):
            assert f"def {name}(" in TESTS, name


@pytest.mark.parametrize("page", [page for page in PAGES if page != "docs/configuration.md"])
def test_keys_are_there(page):
    for code in lines_of_code(PAGES[page]):
        for key in re.findall(rf"(?:^|--set '?|\s)((?:{'|'.join(SECTIONS)})\.[a-z_]+(?:\.[a-z_]+)*)(?=$|[:=\s])", code):
            assert key.endswith((".py", ".parquet")) or is_known(key), key
    for block in blocks(PAGES[page], "yaml"):
        for values in yaml.safe_load_all(re.sub(r"^(judges: \{)", r"---\n\1", block, flags=re.MULTILINE)):
            for key, _ in leaves({key: value for key, value in (values or {}).items() if key not in ("base", "set")}):
                assert is_known(key) or key.startswith("sweep.space"), key


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != "CONTRIBUTING.md" and blocks(PAGES[page], "python")]
)
def test_python_runs_as_it_stands(page, monkeypatch):
    for registry in (SCORES, ARMS, LOSSES, ENGINES):
        monkeypatch.setattr(registry, "_own", dict(registry._own))
    for block in blocks(PAGES[page], "python"):
        exec(compile(block, page, "exec"), {})
