"""A run of the demo: its prompts, batches, identification and training are real, what would need Ray is invented."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from moe_safety.batches.files import prompts_digest
from moe_safety.config import load_config
from moe_safety.models.io import check_loadable, model_fingerprint
from moe_safety.pipeline import run_one
from moe_safety.routing.capture import settings_of
from moe_safety.routing.table import routing_table
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from tests.report.handmade import write_comparison


@pytest.fixture(scope="session")
def identified(composed, tmp_path_factory):
    """Routing, gradients and effects by chance, and what `identify` makes of them."""
    folder = tmp_path_factory.mktemp("identified") / "run"
    shutil.copytree(composed, folder)
    config = _config(folder)
    run, layout = RunDir(config.run_dir), check_loadable(config.model)
    chance = np.random.default_rng(0)
    _capture(run, config, layout, chance)
    layer, expert = np.array(layout.experts()).T
    scores = {"gradient": chance.exponential(1e-3, len(layer))}
    scores |= {"gradient_l2": scores["gradient"], "gradient_per_token": scores["gradient"]}
    run.write_table("expert_gradients.parquet", pa.table({"layer": layer, "expert": expert, **scores}))
    effects = np.where(chance.random(len(layer)) < 0.3, np.nan, chance.normal(0, 0.05, len(layer)))
    effects = dict.fromkeys(("effect", "first_order", "low", "high"), effects)
    effects["against"] = ["control"] * len(layer)
    run.write_table("expert_effects.parquet", pa.table({"layer": layer, "expert": expert, **effects}))
    run_one("identify", config)
    return config


@pytest.fixture(scope="session")
def complete(identified, tmp_path_factory):
    """The same with one arm trained, and a comparison."""
    folder = tmp_path_factory.mktemp("complete") / "run"
    shutil.copytree(identified.run_dir, folder)
    config = _config(folder)
    run_one("train", config)
    write_comparison(RunDir(config.run_dir))
    return config


@pytest.fixture
def copied(complete, tmp_path):
    """A copy of the complete run, to change."""
    shutil.copytree(complete.run_dir, tmp_path / "run")
    return complete.model_copy(update={"run_dir": str(tmp_path / "run")})


def _config(folder):
    flags = ["data.max_samples=60", "train.launch=process", "train.num_epochs=1", "train.router.enabled=true"]
    return load_config("configs/demo.yaml", [f"run_dir={folder}", *flags])


def _capture(run, config, layout, chance):
    prompts = pa.compute.unique(run.read_table("batches.parquet")["prompt_id"]).to_pylist()
    counts = chance.binomial(20, 0.25, (len(prompts), *layout.shape))
    name, tokens = "routing/part-000000.parquet", np.full(len(prompts), 20)

    def body():
        run.write_table(name, routing_table(layout, prompts, tokens, counts, counts * np.float32(0.25)))
        return Outcome((name,), {"files": [name], "layout": layout.fingerprint()})

    inputs = {"prompts": prompts_digest(run), "model": model_fingerprint(config.model)}
    stage = Work("capture", settings_of(config), (), inputs)
    run_work(run, stage, config.model_dump(mode="json"), body)
