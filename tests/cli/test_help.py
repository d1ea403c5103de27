"""Help, completion, the log file and the two voices."""

import argparse
import logging
import shlex
import shutil
import subprocess
import sys

import pytest

from moe_safety.cli import main, make_parser
from moe_safety.cli.completion import SHELLS, script
from moe_safety.cli.ending import took_lines
from moe_safety.cli.log import LOG, logged
from moe_safety.errors import RunError
from moe_safety.rundir import RunDir


def every(parser, path=()):
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from every(command, (*path, name))


EVERY = dict(every(make_parser()))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_fits_a_terminal_has_an_example_and_tells_every_flag(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser, text = EVERY[path], EVERY[path].format_help()
    assert max(map(len, text.splitlines())) <= 100
    assert ("example:\n  " if path else "exit codes:\n") in text
    assert all(action.help for action in parser._actions)


@pytest.mark.parametrize("path", [path for path in EVERY if path], ids=" ".join)
def test_every_example_is_a_command(path):
    text = EVERY[path].epilog.partition("example:\n")[2].replace("\\\n", " ")
    lines = [line.partition("  #")[0].partition(" > ")[0] for line in text.strip().splitlines()]
    for line in lines:
        words = shlex.split(line.strip().removeprefix('eval "$(').removesuffix(')"'))
        assert words[0] == "moe-safety"
        assert make_parser().parse_args(words[1:]).run is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("prepar x.yaml", "COMMAND: there is no 'prepar', did you mean 'prepare'? (moe-safety --help)"),
        (
            "completion tcsh-like",
            "bash|zsh|fish: there is no 'tcsh-like'. Known: bash, zsh, fish (moe-safety completion",
        ),
        ("init demo", "the following arguments are required: --attacks (moe-safety init --help)"),
        ("init demo --attacks a --cards many", "argument --cards: 'many' is no number of cards and their gigabytes"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(given, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(given.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")


@pytest.mark.parametrize("where", ["file/run", "file", "/sys/run"])
def test_where_nothing_can_be_written_the_key_is_named(where, tmp_path, capsys):
    (tmp_path / "file").touch()
    attacks = "{attacks: [{path: demo:attacks.json}]}"
    (tmp_path / "c.yaml").write_text(f"run_dir: {tmp_path / where}\nmodel: {{name: demo}}\ndata: {attacks}\n")
    assert main(["prepare", str(tmp_path / "c.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: run_dir: nothing can be written in {tmp_path / where}: ")
    assert "log.txt" not in said


def test_help_tells_every_command_once_by_groups():
    text = EVERY[()].format_help()
    for (name,) in (path for path in EVERY if len(path) == 1):
        assert text.count(f"\n  {name} ") == 1, name
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_complete_commands_flags_and_keys(shell, capsys):
    assert main(["completion", shell]) == 0
    made = capsys.readouterr().out
    for word in ("calibrate-judge", "extract", "identify.top_k=", "model.name=", "gate"):
        assert word in made
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=made, text=True, check=True)


def completed(*words):
    """What bash offers for the last word."""
    lines = "\n".join(script("bash", make_parser()))
    array = " ".join(f"'{word}'" for word in words)
    call = f'COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _moe_safety 2>/dev/null; echo "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", f"{lines}\n{call}"], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes():
    assert completed("moe-safety", "ca") == ["capture", "calibrate-judge"]
    assert completed("moe-safety", "delta", "re") == ["revert"]
    assert completed("moe-safety", "compare", "x.yaml", "--g") == ["--gate"]
    assert completed("moe-safety", "run", "x.yaml", "--set", "identify.top_") == ["identify.top_k=", "identify.top_p="]
    assert completed("moe-safety", "run", "my-") == []


def speak():
    print("a result")
    print("a complaint", file=sys.stderr)
    print("\rworking\x1b[K", end="", file=sys.stderr)
    logging.getLogger("moe_safety.somewhere").info("a notice")
    logging.getLogger("another").warning("a warning")
    sys.stdout.flush()
    sys.stderr.flush()


@pytest.mark.parametrize(
    ("voice", "out", "err"),
    [
        ({}, "a result\n", ["a complaint", "a warning"]),
        ({"quiet": True}, "", ["a complaint", "a warning"]),
        ({"verbose": True}, "a result\n", ["a complaint", "a notice", "a warning"]),
    ],
    ids=["plain", "quiet", "verbose"],
)
def test_the_log_has_what_the_console_leaves_out(capsys, tmp_path, voice, out, err):
    with logged(str(tmp_path / "run"), **voice):
        speak()
    said = capsys.readouterr()
    assert said[0] == out
    assert [line for line in said[1].replace("\rworking\x1b[K", "").splitlines() if line] == err
    kept = (tmp_path / "run" / LOG).read_text()
    for line in ("$ ", "a result", "a complaint", "INFO moe_safety.somewhere: a notice", "WARNING another: a warning"):
        assert f" {line}" in kept
    assert "\r" not in kept
    assert all(line[:4].isdigit() for line in kept.splitlines())
    with logged(str(tmp_path / "run")):
        print("more")
    assert (tmp_path / "run" / LOG).read_text().startswith(kept)


def test_who_keeps_the_stream_may_speak_after_the_end(capsys, tmp_path):
    with logged(str(tmp_path / "run")):
        kept = sys.stderr
    print("an epilogue", file=kept)
    assert capsys.readouterr().err == "an epilogue\n"


def test_an_error_leaves_its_traceback_in_the_log_and_one_line_on_the_console(capsys, tmp_path):
    with pytest.raises(RunError), logged(str(tmp_path / "run")):
        raise RunError("broken") from OSError("the reason")
    kept = (tmp_path / "run" / LOG).read_text()
    assert "OSError: the reason" in kept
    assert "RunError: broken" in kept
    assert capsys.readouterr().err == ""


def test_a_store_to_whose_files_nothing_can_be_added_gets_the_log_too(monkeypatch, tmp_path):
    opened = RunDir.__init__

    def open_as_store(run, uri):
        opened(run, uri)
        run.is_local = False

    monkeypatch.setattr(RunDir, "__init__", open_as_store)
    for line in ("first", "second"):
        with logged(str(tmp_path)):
            print(line)
    kept = (tmp_path / LOG).read_text()
    assert kept.index("first") < kept.index("second")


def test_what_took_how_long_is_said_of_what_was_done():
    took = {"seconds": 40.0, "driver": {"waiting": 30.0, "other": 9.0, "hashing": 1.0}, "replicas": {"weights": 12.0}}
    done = {"respond": {"skipped": False, "took": took}, "compose": {"skipped": True, "took": took}}
    assert list(took_lines(done)) == [
        "took 40 s",
        "  respond took       40 s  waiting 30.0, other 9.0; workers: weights 12.0",
    ]
    assert list(took_lines({"compose": done["compose"]})) == []
