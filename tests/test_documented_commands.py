"""Every command in the documents runs on the demo model, or says here why it cannot; no other block stands unread."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from moe_safety import cli
from moe_safety.cli import main
from tests.documents import EXAMPLES, PAGES, blocks
from tests.walk import arguments, lay_out, lines_of

READ = PAGES | EXAMPLES
KINDS = {"console", "python", "yaml", "toml", "json", "text"}
"""Commands run here, Python in test_documented_names and test_contributing; keys are read in the former, rows of files
in test_declared_formats; text is what a command prints, or a picture."""
REASONS = {
    r"(PIP_\S+ )?make \w+|\.ci/run": "runs this very suite, or what tests of it run: the demo, the site, the install",
    r"pip (install|wheel) .*": "tests/deploy/test_installed.py installs, in an environment of its own",
    r"pipx run pre-commit install": "changes the checkout's git hooks",
    r"python -m venv /tmp/audit .*|.*pip-audit .*": "asks a service for known faults: needs the network",
    r"python (-m )?benchmarks\S* ?.*": "measures for minutes on an idle machine or a card; tests/benchmarks runs parts",
    r"eval .*": "sets up the shell; tests/cli/test_help.py reads what it is given",
    r"export RAY_\S+ .*": "says where the cluster is; tests/test_submitted_jobs.py submits to one",
}
"""Why a command is not run."""
LINES = [(page, line) for page, text in READ.items() for line in lines_of(text)]
OURS = [(page, line) for page, line in LINES if re.match("moe-safety|ray job submit", line)]
RESOLVED = {
    r"ray job submit .*": "tests/test_submitted_jobs.py submits a job",
    r"moe-safety tune .*": "tests/tune runs sweeps",
    r"moe-safety calibrate-judge tests/judges/.*": "tests/judges/test_exchanges.py holds the page to these figures",
    r".*run_dir=s3://.*": "tests/test_run_on_object_store.py runs there",
}
"""Why the configuration of a command is resolved, and no more."""
HELP = "docs/commands.md"
"""Examples of --help, each by itself: read, and their configurations resolved; tests/cli runs every command."""
WALK = ["README.md", "docs/training.md", "docs/arms.md"]
"""Pages whose commands run for real, in their order: what one leaves, the next reads."""


@pytest.fixture
def world(tmp_path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_is_run_or_says_why_not():
    for page, line in set(LINES) - set(OURS):
        assert any(re.fullmatch(reason, line) for reason in REASONS), f"{page}: {line}"
    for page, line in OURS:
        walked = page in (HELP, *WALK, "examples/reproduce_rasa.md")
        assert walked or any(re.fullmatch(reason, line) for reason in RESOLVED), f"{page}: {line}"


@pytest.mark.parametrize("page", READ)
def test_every_block_says_what_it_is(page):
    said = re.findall(r"^ *```(.*)$", READ[page], re.MULTILINE)
    assert set(said[::2]) <= KINDS
    assert set(said[1::2]) <= {""}
    for block in blocks(READ[page], "toml"):
        tomllib.loads(block)


def test_every_command_reads_and_its_configuration_resolves(world, capsys):
    for page, line in OURS:
        given = arguments(line)
        cli.make_parser().parse_args(given)
        if "--set" in given:
            assert main([*given, *([] if "--dry-run" in given else ["--dry-run"])]) == 0, f"{page}: {line}"
            assert yaml.safe_load(capsys.readouterr().out)


def run(line, folder):
    command = [sys.executable, "-m", "moe_safety", *arguments(line, small=True)]
    shutil.rmtree(folder / "out", ignore_errors=True)  # OUT is a new folder in each line that names it.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.soak
def test_the_commands_of_these_pages_run_in_their_order(world):
    for page in WALK:
        lines = [line for there, line in OURS if there == page]
        for line in [line for line in lines if not any(re.fullmatch(reason, line) for reason in RESOLVED)]:
            run(line, world)
    assert (world / "runs" / "olmoe-fwo" / "report.html").exists()


@pytest.mark.soak
def test_the_commands_that_redo_rasa_s_table_run_on_its_layout(world):
    for line in [line for page, line in OURS if page == "examples/reproduce_rasa.md"]:
        run(line, world)
    for attack in ("flipattack", "johnny", "deepinception"):
        table = (world / "runs" / "rasa" / attack / "comparison.md").read_text()
        for column in ("johnny", "xstest", "strongreject", "selective-routing+router", "baseline"):
            assert column in table
