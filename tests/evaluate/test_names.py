"""What results may be called in `eval/`."""

import pytest

from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.evaluated_models import Subject, configured_subject
from moe_safety.rundir import Outcome, RunDir, Work, run_work


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Makes a configuration in a run where `selective-routing` and `random` were trained."""
    monkeypatch.setattr("moe_safety.evaluate.evaluated_models.model_fingerprint", lambda model: model.name)
    run = RunDir(str(tmp_path / "run"))
    for arm in ("selective-routing", "random"):
        summary = {"final_model": f"train/{arm}/final_model"}
        run_work(run, Work(f"train/{arm}", {}), {}, lambda summary=summary: Outcome((), summary))

    def subject(name, model_path=None):
        config = load_config("configs/demo.yaml", [f"run_dir={run.root}"])
        settings = {"output_name": name, "model_path": model_path and model_path.format(run.root)}
        evaluate = config.evaluate.model_copy(update=settings)
        return configured_subject(config.model_copy(update={"evaluate": evaluate}), run)

    return subject


@pytest.mark.parametrize("model_path", [None, "/elsewhere/model"])
@pytest.mark.parametrize(
    "name",
    [
        "base",
        "train",
        "validation",
        "tune",
        "budgets",
        "comparison",
        "validation.base",
        "random",
        "steering",
        "baseline",
    ],
)
def test_a_name_that_other_results_have_is_refused(named, name, model_path):
    with pytest.raises(InputError, match=f"evaluate.output_name: '{name}' is .*; give another"):
        named(name, model_path)


def test_the_name_of_a_folder_is_no_other(named):
    with pytest.raises(InputError, match="'random' is an arm, and this is another model"):
        named(None, "/elsewhere/random")


def test_an_arm_has_its_own_name_and_any_that_is_free(named):
    assert named(None).name == "selective-routing"
    assert named("selective-routing").name == "selective-routing"
    assert named("random", "{}/train/random/final_model").name == "random"
    assert named("twin", "/elsewhere/model").name == "twin"
    assert isinstance(named("random-2"), Subject)
