"""The configurations that come with the project: each is one, and fits the GPU that its comment names."""

from pathlib import Path

import pytest

from moe_safety.arms import ARMS
from moe_safety.cli import main
from moe_safety.cli.stages import DEMO_CONFIG
from moe_safety.config import load_config, load_sweep
from moe_safety.models.inspection.memory_forecast import Load, capture_memory, training_memory
from tests.models.inspection.test_memory_forecast import sizes_of

CONFIGS = sorted(Path("configs").glob("*.yaml"))
SHAPES = {
    "olmoe": ("olmoe-1b-7b", 80),
    "gradient_rounds": ("olmoe-1b-7b", 80),
    "mixtral": ("mixtral-8x7b", 141),
    "qwen3_30b": ("qwen3-30b-a3b", 141),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_dry_run_resolves_it(path, capsys, tmp_path):
    assert main(["run", str(path), "--dry-run"]) == 0
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(capsys.readouterr().out)
    assert load_config(resolved) == load_config(path)


def test_the_demo_s_is_the_one_that_the_package_brings_and_no_file_is_a_link():
    assert Path("configs/demo.yaml").read_text() == DEMO_CONFIG.read_text()
    assert not [path for path in (*CONFIGS, *Path("tune_configs").iterdir()) if path.is_symlink()]


def test_one_compares_all_arms_that_the_demo_model_has():
    assert set(load_config("configs/arms.yaml").compare.arms) == {*ARMS.names()} - {"shared-experts"}


def test_the_demo_s_sweep_has_a_run_directory_of_its_own():
    assert load_sweep("tune_configs/demo.yaml").config.run_dir != load_config("configs/demo.yaml").run_dir


def test_the_earlier_gradient_scripts_defaults():
    config = load_config("configs/gradient_rounds.yaml")
    assert (config.identify.method, config.identify.top_k, config.batches.batch_size) == ("gradient", 100, 8)
    assert (config.train.num_rounds, config.train.router.enabled, config.train.router.lr) == (3, True, 1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_it_fits_the_gpu_that_it_names(name):
    config, (shape, gigabytes) = load_config(f"configs/{name}.yaml"), SHAPES[name]
    sizes, train, batches = sizes_of(shape), config.train, config.batches
    rows = batches.batch_size + batches.benign_per_batch + batches.control_per_batch
    whole = rows * batches.max_length
    tokens = min(train.micro_batch_tokens or whole, whole)
    load = Load(chosen=config.identify.top_k, tokens=tokens, checkpointing=train.checkpointing)
    trained = training_memory(sizes, load, "selective", train.deepspeed, train.num_workers)
    captured = capture_memory(sizes, Load(tokens=config.capture.max_tokens_per_forward))
    assert trained.total / 1e9 < 0.9 * gigabytes
    assert captured.total / 1e9 < 0.9 * gigabytes * config.capture.gpus_per_replica


PAGE = Path("docs/cluster.md")


def test_the_page_s_figures_are_the_forecast_s():
    """Rows of its table: model, task, chosen, tokens, ZeRO stage, workers, checkpointing, GB."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith(tuple(f"| {shape} " for shape, _ in SHAPES.values()))
    ]
    assert len(rows) >= 12
    for shape, task, chosen, tokens, stage, workers, checkpointing, told in rows:
        count = int(tokens.replace(",", ""))
        if task == "capture":
            found = capture_memory(sizes_of(shape), Load(tokens=count))
        else:
            load = Load(chosen=int(chosen), tokens=count, checkpointing=checkpointing == "yes")
            found = training_memory(sizes_of(shape), load, "selective", int(stage), int(workers))
        assert round(found.total / 1e9) == int(told), (shape, task, tokens, stage, workers)
