"""Sweep files are checked as strictly as configurations; those that come with the project are fine."""

from pathlib import Path

import pytest
import yaml

from moe_safety.cli import main
from moe_safety.config import load_sweep
from moe_safety.errors import InputError

SWEEPS = sorted(Path("tune_configs").glob("*.yaml"))
GOOD = {
    "base": str(Path("configs/demo.yaml").resolve()),
    "set": {"train.num_rounds": 2},
    "sweep": {
        "kind": "training",
        "trials": 4,
        "asha": {"grace_rounds": 1},
        "space": {"identify.top_k": {"integer": [2, 12]}, "train.masking": {"choice": ["gradient", "union"]}},
    },
}


def written(folder, **changes):
    """The good file with `path__to__key` changed; None leaves the key out."""
    given = yaml.safe_load(yaml.safe_dump(GOOD))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = given
        for parent in parents:
            place = place[parent.replace("_dot_", ".")]
        place.pop(last) if value is None else place.update({last.replace("_dot_", "."): value})
    (folder / "sweep.yaml").write_text(yaml.safe_dump(given))
    return folder / "sweep.yaml"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_those_that_come_with_the_project(path, capsys):
    file = load_sweep(path)
    points = file.sweep.points() if file.sweep.search != "optuna" else []
    assert all(file.at(point) for point in points)
    assert file.name == path.stem
    assert main(["tune", str(path), "--dry-run"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    assert resolved["sweep"]["kind"] == file.sweep.kind
    assert resolved["run_dir"] == file.config.run_dir


def test_all_are_there():
    names = {"selection", "selective_asha", "gradient_optuna", "arms_grid", "demo"}
    assert {path.stem for path in SWEEPS} == names


def test_a_point_changes_the_base(tmp_path):
    file = load_sweep(written(tmp_path), ["identify.threshold=0.5", "sweep.trials=9"])
    assert (file.config.train.num_rounds, file.config.identify.threshold, file.sweep.trials) == (2, 0.5, 9)
    config = file.at({"identify.top_k": 5, "train.masking": '"union"'})
    assert (config.identify.top_k, config.train.masking, config.identify.threshold) == (5, "union", 0.5)
    assert file.config.identify.top_k == 8, "the base is as it was"


def test_a_mapping_sets_several_keys_at_once(tmp_path):
    choice = [{"method": "gradient", "score": "gradient_l2"}, {"method": "routing", "score": None}]
    file = load_sweep(written(tmp_path, sweep__space={"identify": {"choice": choice}}))
    tried = [file.at({"identify": name}).identify for name in file.sweep.space["identify"].names]
    assert [(one.method, one.score, one.top_k) for one in tried] == [
        ("gradient", "gradient_l2", 8),
        ("routing", None, 8),
    ]
    assert {score.method for score in file.scores} == {"routing", "gradient"}


def test_a_mapping_in_a_mapping_leaves_the_rest_of_its_section(tmp_path):
    choice = [{"router": {"enabled": True}}, {"router": {"enabled": False}, "masking": "union"}]
    path = written(tmp_path, sweep__space={"train": {"choice": choice}})
    file = load_sweep(path, ["train.router.num_epochs=7"])
    tried = [file.at({"train": name}).train for name in file.sweep.space["train"].names]
    assert {(one.router.enabled, one.router.num_epochs) for one in tried} == {(True, 7), (False, 7)}


def test_trials_that_rank_by_weights_need_tables_that_hold_them(tmp_path):
    space = {"identify": {"choice": [{"method": "routing", "score": "weight"}, {"method": "gradient", "score": None}]}}
    path = written(tmp_path, sweep__space=space)
    with pytest.raises(InputError, match=r"put identify\.method: routing and identify\.score: weight under `set`"):
        load_sweep(path)
    weighed = load_sweep(path, ["identify.method=routing", "identify.score=weight"])
    assert {score.name for score in weighed.scores} == {"weight", "gradient"}


def test_a_selection_sweep_measures_one_selection_for_all_batches(tmp_path):
    space = {"identify.top_k": {"integer": [2, 12]}}
    path = written(tmp_path, sweep={"kind": "selection", "trials": 2, "space": space})
    assert load_sweep(path, ["identify.masks=batch"]), "no trial reads it"
    with pytest.raises(InputError, match=r"identify\.masks: a selection sweep measures one selection"):
        load_sweep(path, ["identify.masks=batch", "identify.method=gradient", "identify.score=null"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sweeps": {}}, "sweeps: unknown key, did you mean 'sweep'?"),
        ({"base": None}, "base: a value is required"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml: No such file"),
        ({"set": {"train.num_round": 2}}, "train.num_round: unknown key, did you mean 'num_rounds'?"),
        ({"sweep__trial": 3}, "sweep.trial: unknown key, did you mean 'trials'?"),
        ({"sweep__kind": "both"}, "sweep.kind: input should be 'selection' or 'training'"),
        ({"sweep__trials": None}, "sweep: search: random needs to know how many trials"),
        ({"sweep__trials": 0}, "sweep.trials: input should be greater than or equal to 1"),
        ({"sweep__search": "grid"}, "sweep: a grid has as many trials as combinations; leave out trials"),
        ({"sweep__search": "grid", "sweep__trials": None}, "a grid takes choices, and space.identify.top_k is a range"),
        ({"sweep__objectives": ["auroc"]}, "'auroc' is none of what is measured: safety_score, asr"),
        ({"sweep__objectives": ["asr", "over_refusal"]}, "several objectives need search: optuna"),
        (
            {"sweep__objectives": ["asr", "over_refusal"], "sweep__search": "optuna"},
            "asha compares trials of training after each round, by one objective",
        ),
        ({"sweep__space": {}}, "sweep.space: dictionary should have at least 1 item"),
        ({"sweep__space__train_dot_masking": {"choices": ["union"]}}, "unknown key, did you mean 'choice'?"),
        ({"sweep__space__identify_dot_top_k": {}}, "takes exactly one of choice, uniform"),
        ({"sweep__space__identify_dot_top_k": {"integer": [12, 2]}}, "integer goes from a lower to a higher number"),
        ({"sweep__space__identify_dot_top_k": {"log_integer": [0, 2]}}, "log_integer needs numbers above 0"),
        ({"sweep__space__identify_dot_top_k": {"uniform": [2, 12]}}, "sweep.space.identify.top_k: "),
        ({"sweep__space__train_dot_masking": {"choice": ["all"]}}, 'sweep.space.train.masking: "all": input should be'),
        ({"sweep__space__train_dot_maskin": {"choice": [1]}}, "sweep.space.train.maskin: 1: unknown key"),
        ({"sweep__space__train_dot_masking": {"choice": ["union", "union"]}}, "a choice is named twice"),
        (
            {"sweep__space__identify": {"choice": [{"method": "gradient", "top_k": 4}]}},
            "sweep.space.identify.top_k: sets identify.top_k, as identify does",
        ),
        ({"sweep__seed": 1 << 32}, "sweep.seed: input should be less than 4294967296"),
        (
            {"sweep__space__batches_dot_batch_size": {"choice": [8]}},
            "sweep.space.batches.batch_size: a training sweep tries identify.* and train.* alone",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path, capsys, changes, complaint):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError) as error:
        load_sweep(path)
    assert complaint.lower() in str(error.value).lower()
    assert main(["tune", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_a_selection_sweep_trains_nothing(tmp_path):
    space = {"train.masking": {"choice": ["union"]}}
    with pytest.raises(InputError, match="a selection sweep tries identify"):
        load_sweep(written(tmp_path, sweep={"kind": "selection", "trials": 2, "space": space}))
