"""What every stage has in common, and the order of stages."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import commands_page
from moe_safety.cli import main
from moe_safety.config import Config, ModelJob, Section, dump_config
from moe_safety.errors import InputError
from moe_safety.everything import load_config
from moe_safety.pipeline import STAGES, Stage, in_order, run_one
from moe_safety.rundir import RunDir
from tests.packages import bring

HEAVY = """
import sys
from importlib import import_module

for module in sys.argv[1:]:
    import_module(module)
print(*sorted({"torch", "transformers", "ray", "scipy", "matplotlib"} & sys.modules.keys()))
"""
WHERE = [
    "inputs.prepare",
    "batches.respond",
    "batches.compose",
    "routing.capture",
    "gradients.gradients",
    "effects.effects",
]
WHERE += ["identify.identify", "train.train", "evaluate.evaluate", "evaluate.compare", "report.report"]


def test_no_stage_brings_torch_or_ray_along_before_there_is_work():
    """To find that nothing is to be done is a matter of seconds."""
    modules = [f"moe_safety.{module}" for module in WHERE]
    assert len(modules) == len(STAGES.names())
    found = subprocess.run([sys.executable, "-c", HEAVY, *modules], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_stages_come_behind_those_whose_work_they_read():
    names = [stage.name for stage in in_order(STAGES)]
    assert names == [
        *("prepare", "respond", "compose", "capture", "gradients", "effects", "identify"),
        *("train", "evaluate", "compare", "report"),
    ]
    assert [stage.name for stage in in_order(reversed(list(STAGES)))][:3] == ["prepare", "respond", "compose"]


def stage(name, reads, writes):
    return Stage(name, "", lambda config: {}, writes=(writes,), reads=lambda: (reads,))


def test_stages_that_read_from_each_other_are_refused():
    with pytest.raises(InputError, match=r"in a circle: (one|other) → "):
        in_order([stage("one", "a", "b"), stage("other", "b", "a")])


@pytest.mark.parametrize("stage", STAGES.own(), ids=lambda stage: stage.name)
def test_a_stage_is_complete(stage):
    """Its function, its flags and its lines are asked where it is run."""
    before = in_order(STAGES)[: in_order(STAGES).index(stage)]
    assert stage.summary[0].islower()
    assert not stage.summary.endswith(".")
    assert stage.writes
    assert set(stage.reads()) <= {name for one in before for name in one.writes}
    assert stage.lines.__module__ != Stage.__module__
    section = Config.model_fields[stage.section].annotation if stage.section else Section
    assert issubclass(section, Section)
    assert stage.needs_model or not issubclass(section, ModelJob)
    assert all(flag.name.isidentifier() and flag.about for flag in stage.flags)
    assert stage.needed_when(load_config("configs/demo.yaml")) in (True, False)


BROUGHT = """
from moe_safety.pipeline import Flag, Stage


def count(config, *, force, at_least):
    from moe_safety.pipeline import BATCHES
    from moe_safety.pipeline.perform import perform
    from moe_safety.rundir import Outcome, RunDir, Work

    run = RunDir(config.run_dir)

    def body():
        run.write_json("count.json", len(run.read_table(BATCHES)))
        return Outcome(("count.json",), {"rows": run.read_json("count.json")})

    manifest = perform(config, Work("counting", settings={}, reads=(BATCHES,)), body, force=force)
    return manifest | {"failed": manifest["summary"]["rows"] < int(at_least or 0)}


counting = Stage(
    "counting",
    "count the rows",
    count,
    writes=("count.json",),
    reads=lambda: ("batches.parquet",),
    lines=lambda config, manifest: [f"counting: {manifest['summary']['rows']} rows", "  one by one"],
    flags=(Flag("at_least", "fail where there are fewer", "ROWS"),),
    example="--at-least 60",
    section="batches",
    look_at=("count.json",),
)
"""


def test_a_stage_of_another_package_has_its_place_and_its_command(tmp_path, monkeypatch, configured, capsys):
    """Its declaration alone says so: flags, lines, help, exit code, what to look at."""
    bring(STAGES, tmp_path, monkeypatch, "counts_rows", BROUGHT, counting="counting")
    names = [stage.name for stage in in_order(STAGES)]
    assert names.index("compose") < names.index("counting")
    config, file = configured(), str(tmp_path / "config.yaml")
    Path(file).write_text(dump_config(config))
    assert main(["counting", file, "--at-least", "60"]) == 0
    said = capsys.readouterr().out
    rows = RunDir(config.run_dir).read_json("count.json")
    assert said.startswith(f"counting: {rows} rows\n  one by one\n")
    assert "count.json" in said
    assert main(["counting", file, "--at-least", str(rows + 1)]) == 1
    assert capsys.readouterr().out.startswith(f"counting: {rows} rows (unchanged)\n")
    run_one("counting", config, quiet=True, at_least=None)
    assert capsys.readouterr().out == ""
    assert main(["counting", file, "--dry-run"]) == 0
    assert capsys.readouterr().out == dump_config(config)
    for command, told in (["--help"], "count the rows"), (["counting", "--help"], "--at-least ROWS"):
        with pytest.raises(SystemExit):
            main(command)
        assert told in capsys.readouterr().out
    page = commands_page().partition("## counting\n")[2].partition("\n## ")[0]
    assert "Reads batches.parquet; writes count.json; settings: `batches`." in " ".join(page.split())
    assert "moe-safety counting my-run.yaml --at-least 60" in page


def test_a_stage_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys):
    bring(STAGES, tmp_path, monkeypatch, "broken_stage", "import no_such_library", broken="broken")
    assert main(["--help"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the stage 'broken' of broken_stage cannot be loaded: ModuleNotFoundError")
    assert told.count("\n") == 1
