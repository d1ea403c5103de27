"""What every stage has in common, and the order of stages."""

import subprocess
import sys

import pytest

from moe_safety.cli import main
from moe_safety.config import dump_config
from moe_safety.errors import InputError
from moe_safety.pipeline import STAGES, Stage, in_order
from moe_safety.rundir import RunDir
from tests.packages import bring

HEAVY = """
import sys
from importlib import import_module

for module in sys.argv[1:]:
    import_module(module)
print(*sorted({"torch", "transformers", "ray", "scipy", "matplotlib"} & sys.modules.keys()))
"""
WHERE = ["inputs.stage", "batches.respond", "batches.compose", "routing.capture", "gradients.stage", "effects.stage"]
WHERE += ["identify.stage", "train.stage", "evaluate.stage", "evaluate.compare", "report.stage"]


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


BROUGHT = """
from moe_safety.pipeline import Stage


def count(config, *, force, **options):
    from moe_safety.pipeline import BATCHES
    from moe_safety.rundir import RunDir

    run = RunDir(config.run_dir)
    run.write_json("count.json", len(run.read_table(BATCHES)))
    return {"forced": force}


counting = Stage("counting", "count the rows", count, writes=("count.json",), reads=lambda: ("batches.parquet",))
"""


def test_a_stage_of_another_package_has_its_place_and_its_command(tmp_path, monkeypatch, configured, capsys):
    bring(STAGES, tmp_path, monkeypatch, "counts_rows", BROUGHT, counting="counting")
    names = [stage.name for stage in in_order(STAGES)]
    assert names.index("compose") < names.index("counting")
    config = configured()
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert main(["counting", str(tmp_path / "config.yaml")]) == 0
    assert RunDir(config.run_dir).read_json("count.json") > 60
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "count the rows" in capsys.readouterr().out


def test_a_stage_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys):
    bring(STAGES, tmp_path, monkeypatch, "broken_stage", "import no_such_library", broken="broken")
    assert main(["--help"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the stage 'broken' of broken_stage cannot be loaded: ModuleNotFoundError")
    assert told.count("\n") == 1
