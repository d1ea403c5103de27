import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from moe_safety.batches.compose import compose
from moe_safety.batches.respond import respond
from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.inputs.prepare import prepare
from moe_safety.models.demo.language import REFUSAL
from moe_safety.rundir import RunDir
from tests.judges import handmade

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    def make(*overrides, name="run"):
        folder = tmp_path_factory.mktemp(name)
        flags = [f"run_dir={folder}", "data.max_samples=40", "respond.max_tokens_per_forward=1000", *overrides]
        return load_config("configs/demo.yaml", flags)

    return make


@pytest.fixture(scope="module")
def answered(configured):
    """The demo's prompts, answered by two workers."""
    config = configured("respond.replicas=2")
    prepare(config)
    return config, respond(config)


def answers(config):
    table = RunDir(config.run_dir).read_table("responses/responses.parquet")
    return dict(zip(table["prompt_id"].to_pylist(), table["answer"].to_pylist(), strict=True))


def test_the_base_model_refuses_plainly_and_answers_all_else(answered):
    config, manifest = answered
    assert manifest["summary"]["verdicts"] == {
        "safe refused": 32,
        "unsafe complied": 32,
        "benign complied": 32,
        "control complied": 32,
    }
    assert manifest["summary"]["recorded"] == 64
    table = RunDir(config.run_dir).read_table("responses/responses.parquet").to_pylist()
    assert {row["answer"] for row in table if row["label"] == "safe"} == {REFUSAL}


def test_answers_do_not_depend_on_workers_or_packing(answered, configured):
    config, _ = answered
    other = configured("respond.replicas=1", "respond.max_tokens_per_forward=4000", name="other")
    prepare(other)
    respond(other)
    assert answers(other) == answers(config)


def test_a_second_run_does_nothing_and_lost_answers_are_given_again(answered):
    config, _ = answered
    run = RunDir(config.run_dir)
    before = answers(config)
    assert respond(config)["skipped"]
    run.delete("responses/responses.parquet")
    run.delete("responses/_answers/part-000000.parquet")
    assert not respond(config)["skipped"]
    assert answers(config) == before


def test_compose_takes_what_was_kept(answered, capsys):
    config, _ = answered
    summary = compose(config)["summary"]
    assert (summary["batches"], summary["rows"], summary["leftover"]["pairs"]) == (4, 88, 0)
    assert summary["partial"] == 1
    rows = RunDir(config.run_dir).read_table("batches.parquet").to_pylist()
    assert [row["label"] for row in rows[:24]] == ["safe"] * 8 + ["unsafe"] * 8 + ["benign"] * 4 + ["control"] * 4
    assert {row["target"] for row in rows if row["label"] in ("safe", "unsafe")} == {REFUSAL}
    assert all(row["target"].startswith("sure") for row in rows if row["label"] in ("benign", "control"))
    assert "answers from respond: 44 recorded in files, 44 the model's own" in capsys.readouterr().out


def test_answers_to_other_prompts_are_not_composed(answered, tmp_path):
    config, _ = answered
    shutil.copytree(config.run_dir, tmp_path / "run")
    flags = [f"run_dir={tmp_path / 'run'}", "respond.max_tokens_per_forward=1000", "data.max_samples=36"]
    fewer = load_config("configs/demo.yaml", flags)
    prepare(fewer, force=True)
    with pytest.raises(InputError, match=r"responses\.parquet: are of other prompts; run `respond` again"):
        compose(fewer, force=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("respond.filter=false", r"`respond` was run with respond\.filter = True, now False; run `respond` again with"),
        ("judges.refusal.kind=endpoint", r"`respond` was run with judges\.refusal\.kind = rules, now endpoint"),
    ],
)
def test_answers_are_not_composed_as_if_they_were_given_in_another_way(answered, tmp_path, change, told):
    config, _ = answered
    shutil.copytree(config.run_dir, tmp_path / "run")
    flags = [f"run_dir={tmp_path / 'run'}", "data.max_samples=40", "respond.max_tokens_per_forward=1000"]
    kept = load_config("configs/demo.yaml", flags)
    compose(kept)
    changed = load_config("configs/demo.yaml", [*flags, f"judges.refusal={JUDGE}" if "judge" in change else change])
    for force in (False, True):
        with pytest.raises(InputError, match=told):
            compose(changed, force=force)
    fewer = load_config("configs/demo.yaml", [*flags, "batches.benign_per_batch=0"])
    assert compose(fewer, force=True)["summary"]["rows"] == 3 * 20 + 12, "more was answered than is asked for"


def test_where_nobody_refused_compose_says_so(answered, tmp_path):
    config, _ = answered
    shutil.copytree(config.run_dir, tmp_path / "run")
    flags = [f"run_dir={tmp_path / 'run'}", "data.max_samples=40", "respond.max_tokens_per_forward=1000"]
    config, run = load_config("configs/demo.yaml", flags), RunDir(str(tmp_path / "run"))
    responses = run.read_table("responses/responses.parquet")
    rows = responses.to_pylist()
    for row in rows:
        if row["label"] in ("safe", "unsafe"):
            row |= {"verdict": "complied", "kept": False, "dropped": "safe_not_refused"}
    run.write_table("responses/responses.parquet", pa.Table.from_pylist(rows, schema=responses.schema))
    with pytest.raises(InputError, match=r"0 of 28 goals are refused when asked plainly: is this model aligned\?"):
        compose(config, force=True)


def test_sampled_answers_are_seeded(configured):
    def sampled(name, *overrides):
        config = configured("respond.temperature=3.0", "respond.filter=false", *overrides, name=name)
        prepare(config)
        respond(config)
        return answers(config)

    one = sampled("one", "respond.replicas=1")
    assert one == sampled("two", "respond.replicas=2", "respond.max_tokens_per_forward=500")
    assert one != sampled("three", "seed=43")


JUDGE = '{kind: endpoint, model: m, base_url: "http://127.0.0.1:9", key_env: NO_SUCH_KEY, parallel: 1}'


def test_another_judge_is_another_stage(answered):
    config, _ = answered
    flags = [f"run_dir={config.run_dir}", "data.max_samples=40", "respond.max_tokens_per_forward=1000"]
    with pytest.raises(InputError, match=r"`respond` was run with judges\.refusal\.kind = rules, now endpoint"):
        respond(load_config("configs/demo.yaml", [*flags, f"judges.refusal={JUDGE}"]))
    assert respond(load_config("configs/demo.yaml", [*flags, "judges={}"]))["skipped"]


def test_a_judge_without_its_key_is_told_of_before_anything_is_answered(configured):
    config = configured(f"judges.refusal={JUDGE}", name="keyless")
    prepare(config)
    with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
        respond(config)
    assert RunDir(config.run_dir).names("plans") == []


def test_a_model_that_judges_is_an_input_of_the_stage(answered, tmp_path):
    config, manifest = answered
    run = RunDir(str(shutil.copytree(config.run_dir, tmp_path / "run")))
    run.delete("manifests/respond.json")
    labels = "{HELPS: complied, ODD: complied, DECLINES: refused}"
    section = f"{{kind: classifier, model: {handmade.classifier(tmp_path / 'judge')}, labels: {labels}}}"
    flags = [f"run_dir={run.root}", "data.max_samples=40", "respond.max_tokens_per_forward=1000"]
    judged = load_config("configs/demo.yaml", [*flags, f"judges.refusal={section}"])
    assert respond(judged)["summary"]["verdicts"] == manifest["summary"]["verdicts"]
    assert respond(judged)["skipped"]
    weights = tmp_path / "judge" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="`respond` was run with another judge classifier"):
        respond(judged)
    given = written(run)
    assert not respond(judged, force=True)["skipped"]
    assert written(run) == given, "only the judge has changed"
    respond(judged, force=True)
    assert not written(run) & given, "nothing has changed, so all is to be done again"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("respond.temperature=5", r"respond\.temperature = 0\.0, now 5"),
        ("batches.control_per_batch=0", "labels = "),
        ("model.dtype=bfloat16", r"model\.dtype = auto, now bfloat16"),
    ],
)
def test_what_decides_an_answer_is_answered_anew(answered, tmp_path, change, told):
    config, _ = answered
    run = RunDir(str(shutil.copytree(config.run_dir, tmp_path / "run")))
    flags = [
        f"run_dir={run.root}",
        "data.max_samples=40",
        "respond.max_tokens_per_forward=1000",
        "respond.filter=false",
    ]
    before = load_config("configs/demo.yaml", [*flags, "respond.temperature=0"])
    respond(before, force=True)
    given, plan = written(run), run.read_bytes("plans/respond.parquet")
    changed = load_config("configs/demo.yaml", [*flags, change])
    with pytest.raises(InputError, match=told):
        respond(changed)
    respond(changed, force=True)
    assert run.read_bytes("plans/respond.parquet") != plan
    assert not written(run) & given
    respond(before, force=True)
    assert {row["label"] for row in run.read_table("responses/responses.parquet").to_pylist()} >= {"benign", "control"}


def written(run):
    """When each part of the answers was."""
    files = run.files("responses/_answers")
    assert files
    return {(name, Path(run.path(name)).stat().st_mtime_ns) for name in files}
