"""What notebooks on the earlier scripts' files find in those that are exported."""

import io
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moe_safety.cli import main
from moe_safety.errors import InputError
from moe_safety.export import export_pickles
from moe_safety.gradients.table import EXPERT_GRADIENTS
from moe_safety.identify.selection import read_selection
from moe_safety.identify.stage import identify
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage
from tests.identify.synthetic import Invented, invent, make_layout

LAYOUT = make_layout(sizes=(4, 6), first=1)


class Spoken(Invented):
    """With something said in every place."""

    def batches_table(self):
        rows = super().batches_table().to_pylist()
        for row in rows:
            request = [{"role": "user", "content": f"zorp {row['prompt_id']}"}]
            row |= {"messages": request, "answer": f"fep {row['prompt_id']}", "target": f"no {row['prompt_id']}"}
        starts = {row["batch_idx"]: place for place, row in reversed(list(enumerate(rows)))}
        rows = [row | {"in_batch_idx": place - starts[row["batch_idx"]]} for place, row in enumerate(rows)]
        return pa.Table.from_pylist(rows, schema=super().batches_table().schema)


def finish(config, stage, outputs=(), reads=()):
    """As the stage itself would leave its manifest."""
    run = RunDir(config.run_dir)
    run_stage(
        run, Stage(stage, {}, reads), config.model_dump(mode="json"), lambda: Outcome(tuple(outputs), {}), force=True
    )


def gradients(config):
    """As `gradients` leaves them, with invented values."""
    pairs = LAYOUT.experts()
    values = np.random.default_rng(5).uniform(size=len(pairs))
    layers, experts = zip(*pairs, strict=True)
    names = ("gradient", "gradient_l2", "gradient_per_token")
    columns = {"layer": layers, "expert": experts} | dict.fromkeys(names, values)
    RunDir(config.run_dir).write_table(EXPERT_GRADIENTS, pa.table(columns))
    reads = ("batches.parquet",) if RunDir(config.run_dir).exists("batches.parquet") else ()
    finish(config, "gradients", [EXPERT_GRADIENTS], reads)
    return dict(zip(pairs, values.tolist(), strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run directory up to `identify`, with the counts it was made from."""
    lift = np.zeros(LAYOUT.shape)
    lift[0, 2] = lift[1, 5] = 0.3
    invented = Spoken(**vars(invent(LAYOUT, goals=12, per_batch=4, harmless=1, lift=lift)))
    config = invented.write(tmp_path_factory.mktemp("run"), top_k=2)
    finish(config, "compose", ["batches.parquet"])
    identify(config)
    values = gradients(config)
    return config, invented, values, RunDir(config.run_dir)


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export_pickles(made[0].run_dir, str(folder))
    return folder, made[0].model.name.replace("/", "--")


def test_inspection_of_batches_and_experts(files, made):
    """The lines of the earlier notebooks."""
    folder, model = files
    data = pd.read_pickle(folder / f"sft_dataset_{model}.pkl")
    assert len(data["batch_data_list"]) == 3
    for number, batch in enumerate(data["batch_data_list"]):
        assert batch["batch_idx"] == number
        assert len(batch["safe_indices"]) == len(batch["unsafe_indices"]) == 4
        assert len(batch["batch_outputs"]) == 10
        assert {batch["batch_outputs"][i]["label"] for i in batch["unsafe_indices"]} == {"unsafe"}
        assert [output["in_batch_idx"] for output in batch["batch_outputs"]] == list(range(10))
    for i, experts in enumerate(data["batch_unsafe_experts"]):
        assert 0 < len(experts) <= 2
        mask = data["batch_expert_masks"][i]
        assert {(data["layers"][row], expert) for row, expert in zip(*np.nonzero(mask), strict=True)} == set(experts)
    overlap = set(data["batch_unsafe_experts"][0]) & set(data["batch_unsafe_experts"][1])
    assert overlap == {(1, 2), (2, 5)}
    assert data["global_unsafe_experts"] == data["unsafe_experts"] == read_selection(made[3]).experts
    assert data["expert_mask"].sum() == len(data["unsafe_experts"]) == 2
    assert (data["num_layers"], data["n_experts"], data["num_experts_per_tok"]) == (2, 6, 2)
    first = data["batch_data_list"][0]["batch_outputs"][data["batch_data_list"][0]["unsafe_indices"][0]]
    assert len(data["sft_dataset"]) == 12
    assert data["sft_dataset"][0]["messages"] == [
        {"role": "user", "content": first["prompt"]},
        {"role": "assistant", "content": f"no {first['prompt_id']}"},
    ]


def test_risk_follows_from_the_counts_beside_it(files):
    """From the exported counts alone, the exported table, columns of the earlier scripts included."""
    folder, model = files
    batches = pd.read_pickle(folder / f"batch_outputs_{model}.pkl")["batch_data_list"]
    risk = pd.read_pickle(folder / f"risk_diff_{model}.pkl")
    rates, tokens = {}, {}
    for side in ("safe", "unsafe"):
        reached = sum(sum(batch[f"{side}_routings"]) for batch in batches)
        outputs = [batch["batch_outputs"][i] for batch in batches for i in batch[f"{side}_indices"]]
        tokens[side] = sum(output["num_counted_tokens"] for output in outputs)
        rates[side] = reached / tokens[side]
    table = risk["aggregated_risk_diff"]
    expected = (rates["unsafe"] - rates["safe"])[table["layer"] - 1, table["expert"]]
    np.testing.assert_allclose(table["risk_diff"], expected, rtol=1e-12)
    assert (table["a_safe"] + table["d_safe"] == tokens["safe"]).all()
    assert table["risk_diff"].is_monotonic_decreasing
    assert table["Layer_Expert"][0] == f"L{table['layer'][0]:02d}_E{table['expert'][0]:02d}"
    assert len(risk["batch_risk_diffs"]) == 3
    best = risk["batch_risk_diffs"][0].nlargest(2, "risk_diff")[["layer", "expert", "risk_diff", "a_safe", "a_unsafe"]]
    assert set(zip(best["layer"], best["expert"], strict=True)) == {(1, 2), (2, 5)}


def test_gradients_are_the_first_round(files, made):
    data = pd.read_pickle(files[0] / "expert_gradients.pkl")
    values = made[2]
    assert list(data) == [1]
    assert data[1]["gradients"] == values
    assert data[1]["experts"] == sorted(values, key=values.get, reverse=True)[:2]


def test_nothing_but_plain_objects_is_needed_to_load_them(files):
    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            assert module.split(".")[0] in ("numpy", "pandas", "builtins"), f"{module}.{name}"
            assert "StringDtype" not in name
            return super().find_class(module, name)

    paths = sorted(files[0].iterdir())
    assert [path.name.split("_")[0] for path in paths] == ["batch", "expert", "risk", "sft"]
    for path in paths:
        Plain(io.BytesIO(path.read_bytes())).load()


def test_a_stage_that_is_missing_is_named(made, tmp_path, capsys):
    def outcome(run_dir):
        code = main(["export", str(run_dir), "--format", "pickle"])
        said = capsys.readouterr()
        return code, said.err or said.out

    run = tmp_path / "run"
    assert outcome(run) == (2, f"error: {run}: `compose` has not been run yet\n")
    config = Spoken(**vars(made[1])).write(tmp_path, top_k=2)
    finish(config, "compose", ["batches.parquet"])
    assert outcome(run) == (2, f"error: {run}: `identify` has not been run yet\n")
    identify(config)
    capsys.readouterr()
    code, said = outcome(run)
    assert code == 0
    assert "no expert_gradients.pkl, because `gradients` has not been run" in said
    assert len(list((run / "export").iterdir())) == 3
    table = RunDir(config.run_dir).read_table("batches.parquet")
    RunDir(config.run_dir).write_table("batches.parquet", table.slice(0, 10))
    assert outcome(run) == (
        2,
        f"error: {run}: `identify` was run without these batches and their counts; run it again\n",
    )


def test_gradients_alone(made, tmp_path, capsys):
    config = made[0].model_copy(update={"run_dir": str(tmp_path / "run")})
    gradients(config)
    paths = export_pickles(config.run_dir)
    assert [path.rpartition("/")[2] for path in paths] == ["expert_gradients.pkl"]
    assert "nothing of routing, because `capture` has not been run" in capsys.readouterr().out


@pytest.fixture
def another(made, tmp_path):
    """The same run once more, to change."""
    config = Spoken(**vars(made[1])).write(tmp_path, top_k=2)
    finish(config, "compose", ["batches.parquet"])
    identify(config)
    return config


def test_counts_that_identification_never_saw_are_not_exported_beside_it(another):
    """`capture` was run again, and `identify` was not."""
    run = RunDir(another.run_dir)
    manifest = run.read_json("manifests/capture.json")
    outputs = dict.fromkeys(manifest["outputs"], "0" * 64)
    run.write_json("manifests/capture.json", manifest | {"outputs": outputs})
    with pytest.raises(InputError, match="`identify` was run without these batches and their counts"):
        export_pickles(another.run_dir)


def test_gradients_of_other_batches_are_refused(another):
    gradients(another)
    run = RunDir(another.run_dir)
    manifest = run.read_json("manifests/gradients.json")
    run.write_json("manifests/gradients.json", manifest | {"inputs": {"batches.parquet": "0" * 64}})
    with pytest.raises(InputError, match="`gradients` was run on other batches; run it again"):
        export_pickles(another.run_dir)
    assert run.files("export") == [], "nothing is written by halves"


def test_as_many_experts_are_exported_as_identify_selected(another, tmp_path):
    """Whatever the configuration said when `gradients` was run."""
    gradients(another.model_copy(update={"identify": another.identify.model_copy(update={"top_k": 7})}))
    export_pickles(another.run_dir, str(tmp_path / "out"))
    assert len(pd.read_pickle(tmp_path / "out" / "expert_gradients.pkl")[1]["experts"]) == 2
