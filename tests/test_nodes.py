"""A lost machine loses nothing: capture and training on three nodes of which some are taken away without grace."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.config import load_config
from moe_safety.identify.identify import identify
from moe_safety.jobs import Parts, Plan
from moe_safety.routing.capture import capture
from moe_safety.routing.reader import build_reader
from moe_safety.rundir import RunDir
from moe_safety.train.train import train
from moe_safety.tune.tune import tune
from tests.nodes import PATIENCE, several_nodes, wait_for
from tests.tune.sweeps import records_of, sweep_file

MANY_ITEMS = "capture.max_tokens_per_forward=60"
TWO_WORKERS = [
    "train.launch=ray",
    "train.num_workers=2",
    "train.num_epochs=10",
    "train.checkpoint_every=3",
    "train.learning_rate=1e-3",
    "train.weight_decay=0.1",
    "train.deepspeed=2",
    "identify.method=random",
]
RATES = {"kind": "training", "search": "grid", "space": {"train.learning_rate": {"choice": [3e-3, 1e-3]}}}
ARM = "train/random"
CHECKPOINTS = f"{ARM}/round_1/experts/checkpoints"


@pytest.fixture(scope="module")
def nodes():
    with several_nodes() as nodes:
        yield nodes


def configured(folder, *flags):
    return load_config("configs/demo.yaml", [f"run_dir={folder}", "data.max_samples=60", *flags])


def captured(run):
    """How many items are done."""
    return len(run.names("routing/_done"))


def check_capture(config):
    """Every item of the plan has one part, and it is what a single process makes of the item, bit for bit."""
    run = RunDir(config.run_dir)
    plan, reader = Plan(run, "plans/capture.parquet"), build_reader(config.model, 0)
    parts = Parts(run, "routing", plan)
    assert run.names("routing", ".parquet") == parts.table_names
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # As actors do.
    for item, table in enumerate(parts.tables()):
        assert table.equals(reader(plan.rows(item), {})), item
    torch.set_num_threads(before)


@pytest.mark.soak
def test_capture_goes_on_without_the_node_that_was_lost(nodes, composed, tmp_path):
    import ray

    shutil.copytree(composed, tmp_path / "run")
    config = configured(tmp_path / "run", MANY_ITEMS)
    run = RunDir(config.run_dir)
    assert len(ray.nodes()) == 3, "`connect` has joined the cluster that RAY_ADDRESS names"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(capture, config)
        wait_for(lambda: captured(run) > 3)
        nodes.lose("Replica")
        assert captured(run) < len(Plan(run, "plans/capture.parquet")), "the node was to be lost in the middle"
        running.result(PATIENCE)
    check_capture(config)
    nodes.add()


@pytest.mark.soak
def test_capture_waits_for_the_nodes_that_come_back(nodes, composed, tmp_path):
    """Both nodes beside the driver's are lost, and one is added while the rest goes on."""
    shutil.copytree(composed, tmp_path / "run")
    config = configured(tmp_path / "run", MANY_ITEMS)
    run = RunDir(config.run_dir)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(capture, config)
        wait_for(lambda: captured(run) > 3)
        nodes.lose("Replica")
        nodes.lose("Replica")
        assert captured(run) < len(Plan(run, "plans/capture.parquet"))
        nodes.add()
        running.result(PATIENCE)
    check_capture(config)
    nodes.add()


@pytest.mark.soak
def test_training_goes_on_when_nodes_are_lost_and_added(nodes, composed, tmp_path):
    """After the first loss two nodes are left, which is enough; after the second one is, and it waits for another."""
    whole, disturbed = (configured(tmp_path / name, *TWO_WORKERS) for name in ("whole", "disturbed"))
    for config in (whole, disturbed):
        shutil.copytree(composed, config.run_dir)
        identify(config)
    train(whole)
    run = RunDir(disturbed.run_dir)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(train, disturbed)
        wait_for(lambda: run.exists(f"{CHECKPOINTS}/step-00000006.json"))
        nodes.lose("RayTrainWorker")
        wait_for(lambda: run.exists(f"{CHECKPOINTS}/step-00000012.json"))
        nodes.lose("RayTrainWorker")
        nodes.add()
        running.result(PATIENCE)
    nodes.add()
    one, two = (load_file(f"{each.run_dir}/{ARM}/final_model/model.safetensors") for each in (whole, disturbed))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    logs = [steps(RunDir(each.run_dir)) for each in (whole, disturbed)]
    assert logs[0] == logs[1]
    assert [step for step, *_ in logs[1]] == list(range(30)), "no step is missing and none was made twice"


def steps(run):
    log = run.read_json(f"{ARM}/training_metadata.json")["training_logs"]
    return [(row["step"], row["batch_idx"], row["loss"]) for row in log]


@pytest.mark.soak
def test_a_sweep_goes_on_when_a_node_is_lost(nodes, composed, tmp_path):
    """Two trials train side by side when a node with a worker on it is lost; both go on from their checkpoints."""
    files = []
    for name in ("whole", "disturbed"):
        (tmp_path / name).mkdir()
        settings = {"train.num_epochs": 20, "train.checkpoint_every": 5}
        files.append(sweep_file(composed, tmp_path / name, RATES, **settings))
    whole, disturbed = files
    tune(whole)
    run = RunDir(disturbed.config.run_dir)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tune, disturbed)
        wait_for(lambda: any("/checkpoints/" in name for name in run.files("tune/small/work")))
        nodes.lose("RayTrainWorker")
        assert not any(record.is_over for record in records_of(disturbed).values()), "it was to be lost in the middle"
        nodes.add()
        running.result(PATIENCE)
    expected, found = (
        {rate: (record.status, record.last) for rate, record in records_of(file).items()} for file in files
    )
    assert [status for status, _ in expected.values()] == ["finished"] * 2
    assert found == expected
