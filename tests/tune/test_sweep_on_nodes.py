"""A node is lost without grace while a sweep trains on it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from moe_safety.rundir import RunDir
from moe_safety.tune.records import Records
from moe_safety.tune.stage import tune
from tests.nodes import PATIENCE, several_nodes, wait_for
from tests.tune.test_training_sweep import records_of, sweep_file

SWEEP = {
    "kind": "training",
    "search": "grid",
    "parallel": 2,
    "space": {"train.learning_rate": {"choice": [3e-3, 1e-3]}},
}
LONG = {"train.num_epochs": 20, "train.checkpoint_every": 3}


@pytest.mark.soak
def test_a_sweep_goes_on_without_the_node_that_was_lost(composed, tmp_path):
    with several_nodes() as nodes:
        found = []
        for name in ("whole", "disturbed"):
            (tmp_path / name).mkdir()
            file = sweep_file(composed, tmp_path / name, SWEEP, **LONG)
            if name == "whole":
                tune(file)
            else:
                with ThreadPoolExecutor(1) as pool:
                    running = pool.submit(tune, file)
                    wait_for(lambda file=file: _checkpoints(file))
                    assert {record.status for record in Records(_run(file), "tune/small").read()} == {"running"}
                    nodes.lose("RayTrainWorker")
                    nodes.add()
                    running.result(PATIENCE)
            found.append({name: (record.status, record.last) for name, record in records_of(file).items()})
        assert found[0] == found[1]
        assert {status for status, _ in found[1].values()} == {"finished"}


def _run(file):
    return RunDir(file.config.run_dir)


def _checkpoints(file):
    return [name for name in _run(file).files("tune/small/work") if "step-0000000" in name]
