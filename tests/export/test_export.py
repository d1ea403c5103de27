"""What notebooks on the earlier scripts' files find in those that are exported."""

import io
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from moe_safety.batches.compose import settings_of
from moe_safety.cli import main
from moe_safety.errors import InputError
from moe_safety.export import export_pickles
from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.jobs import Plan
from moe_safety.pipeline import EXPERT_GRADIENTS
from moe_safety.routing.plan import PLAN_SCHEMA
from moe_safety.routing.tokens import token_schema
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from tests.identify.synthetic import Invented, invent, make_layout

LAYOUT = make_layout(sizes=(4, 6), first=1)


PROMPT = 3
"""Tokens of every prompt."""


@dataclass
class Spoken(Invented):
    """With something said in every place, and a row of tokens for it."""

    counted: str = "response"
    per_token: bool = False

    def capture(self, config, parts=2):
        super().capture(config, parts)
        run = RunDir(config.run_dir)
        ids = {prompt: f"{prompt[0]}-{prompt[1]}" for prompt in self.prompts}
        rows = [self._row(prompt_id, self.tokens[prompt]) for prompt, prompt_id in ids.items()]
        Plan(run, "plans/capture.parquet").write([pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)], PLAN_SCHEMA, "")
        manifest = run.read_json("manifests/capture.json")
        manifest["config"] = {"capture": {"tokens": self.counted}}
        if self.per_token:
            name = "routing_tokens/part-000000.parquet"
            made = [row for prompt, prompt_id in ids.items() for row in self._tokens(prompt, prompt_id)]
            run.write_table(name, pa.Table.from_pylist(made, schema=token_schema(self.layout)))
            manifest["outputs"][name] = run.digest(name)
            manifest["summary"]["token_files"] = [name]
        run.write_json("manifests/capture.json", manifest)

    def _row(self, prompt_id, tokens):
        row = {"forward": 0, "prompt_id": prompt_id, "tokens": range(PROMPT + tokens)}
        start, end = {"response": (PROMPT, PROMPT + tokens), "prompt": (0, PROMPT), "all": (0, PROMPT + tokens)}[
            self.counted
        ]
        return row | {"counted_from": start, "counted_to": end}

    def _tokens(self, prompt, prompt_id):
        """Every prompt's tokens go to the first expert, and the answer's first ones to those that count them."""
        for place in range(PROMPT + self.tokens[prompt]):
            for position, layer in enumerate(self.layout.layers):
                reached = np.flatnonzero(self.counts[prompt][position] > place - PROMPT).tolist()
                experts = reached if place >= PROMPT else [0]
                yield {"prompt_id": prompt_id, "place": place, "layer": layer.index, "experts": experts}

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
    run, settings = RunDir(config.run_dir), settings_of(config) if stage == "compose" else {}
    run_work(
        run,
        Work(stage, settings, reads),
        config.model_dump(mode="json"),
        lambda: Outcome(tuple(outputs), {}),
        force=True,
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


def spoken(**settings):
    lift = np.zeros(LAYOUT.shape)
    lift[0, 2] = lift[1, 5] = 0.3
    return Spoken(**vars(invent(LAYOUT, goals=12, per_batch=4, harmless=1, lift=lift)), **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run directory up to `identify`, with the counts it was made from."""
    invented = spoken()
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
        outputs = [batch["batch_outputs"][i] for batch in batches for i in batch[f"{side}_indices"]]
        reached = sum(output["counts"] for output in outputs)
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


ROUTINGS = {"prompt_routings", "generation_routings", "all_routings"}


def exported(folder, **settings):
    """The batches that are exported of a fresh run."""
    config = spoken(**settings).write(folder, top_k=2)
    finish(config, "compose", ["batches.parquet"])
    identify(config)
    export_pickles(config.run_dir)
    return pd.read_pickle(next((folder / "run" / "export").glob("batch_outputs_*.pkl")))["batch_data_list"]


def test_an_earlier_reader_counts_the_tokens_that_there_are(tmp_path):
    """As [layers, tokens, experts], for every prompt of a side."""
    for batch in exported(tmp_path, per_token=True):
        for side in ("safe", "unsafe"):
            outputs = [batch["batch_outputs"][place] for place in batch[f"{side}_indices"]]
            routings = batch[f"{side}_routings"]
            layers, _, experts = routings[0].shape
            assert (layers, experts) == LAYOUT.shape
            assert [routing.shape[1] for routing in routings] == [each["num_counted_tokens"] for each in outputs]
            for routing, output in zip(routings, outputs, strict=True):
                assert (routing.sum(axis=1) == output["counts"]).all()
                assert (routing == output["generation_routings"]).all()
        for output in batch["batch_outputs"]:
            assert output["num_prompt_tokens"] == output["prompt_routings"].shape[1] == PROMPT
            assert output["num_generated_tokens"] == output["generation_routings"].shape[1]
            assert (output["prompt_routings"][:, :, 0] == 1).all()
            both = np.concatenate([output["prompt_routings"], output["generation_routings"]], axis=1)
            assert (output["all_routings"] == both).all()


def test_what_was_not_kept_is_not_there(files):
    folder, model = files
    for batch in pd.read_pickle(folder / f"batch_outputs_{model}.pkl")["batch_data_list"]:
        assert not batch.keys() & {"safe_routings", "unsafe_routings"}
        for output in batch["batch_outputs"]:
            assert not output.keys() & ROUTINGS
            assert output["num_prompt_tokens"] == PROMPT
            assert output["num_generated_tokens"] == output["num_counted_tokens"]


@pytest.mark.parametrize("counted", ["prompt", "all"])
def test_routings_are_those_of_the_counted_tokens(tmp_path, counted):
    (batch, *_) = exported(tmp_path, counted=counted, per_token=True)
    name = {"prompt": "prompt_routings", "all": "all_routings"}[counted]
    for place, routing in zip(batch["safe_indices"], batch["safe_routings"], strict=True):
        assert (routing == batch["batch_outputs"][place][name]).all()
    output = batch["batch_outputs"][0]
    assert ("num_prompt_tokens" in output) == (counted == "prompt"), "where both count, nobody knows the boundary"
    assert output.keys() & ROUTINGS == (ROUTINGS if counted == "prompt" else {"all_routings"})


def test_tokens_that_capture_did_not_write_are_refused(tmp_path):
    config = spoken(per_token=True).write(tmp_path, top_k=2)
    finish(config, "compose", ["batches.parquet"])
    identify(config)
    name = "routing_tokens/part-000000.parquet"
    run = RunDir(config.run_dir)
    run.write_table(name, run.read_table(name).slice(1))
    with pytest.raises(InputError, match=r"routing_tokens/part-000000.parquet: is not what `capture` wrote"):
        export_pickles(config.run_dir)


def trained(config, arm, method, rounds):
    """As an arm leaves its rounds, each with gradients of its own."""
    run = RunDir(config.run_dir)
    selection = read_selection(run)
    values = np.random.default_rng(len(arm)).uniform(size=(rounds, len(LAYOUT.experts())))
    layers, experts = zip(*LAYOUT.experts(), strict=True)
    for number, gradient in enumerate(values, start=1):
        folder = f"train/{arm}/round_{number}"
        run.write_table(
            f"{folder}/{EXPERT_GRADIENTS}", pa.table({"layer": layers, "expert": experts, "gradient": gradient})
        )
        chosen = replace(selection, method=method, experts=[LAYOUT.experts()[number]])
        run.write_json(f"{folder}/selection.json", chosen.to_json())
    finish(config, f"train/{arm}", reads=("batches.parquet",))
    return values


def test_gradients_of_every_round(another, tmp_path, capsys):
    first = gradients(another)
    trained(another, "selective-routing", "routing", 4)
    trained(another, "selective-gradient+router", "gradient", 2)
    values = trained(another, "selective-gradient", "gradient", 3)
    export_pickles(another.run_dir, str(tmp_path / "out"))
    data = pd.read_pickle(tmp_path / "out" / "expert_gradients.pkl")
    assert list(data) == [1, 2, 3]
    assert data[1]["gradients"] == first
    for number in (2, 3):
        assert data[number]["experts"] == [LAYOUT.experts()[number]]
        assert [data[number]["gradients"][pair] for pair in LAYOUT.experts()] == values[number - 1].tolist()
    told = (
        "the later rounds of expert_gradients.pkl are those of selective-gradient, and not of selective-gradient+router"
    )
    assert told in capsys.readouterr().out


def test_rounds_on_other_batches_are_refused(another):
    gradients(another)
    trained(another, "selective-gradient", "gradient", 2)
    run = RunDir(another.run_dir)
    manifest = run.read_json("manifests/train.selective-gradient.json")
    run.write_json("manifests/train.selective-gradient.json", manifest | {"inputs": {"batches.parquet": "0" * 64}})
    with pytest.raises(InputError, match="`train/selective-gradient` was run on other batches; run it again"):
        export_pickles(another.run_dir)


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
