import re
import textwrap
from pathlib import Path

import pytest

from moe_safety.config import dump_config, load_config, results_only
from moe_safety.errors import InputError

GOOD = """
run_dir: runs/x
model: {name: demo}
data:
  attacks: [{path: a.json}]
  benign: [{path: b.jsonl}]
  controls: {from: benign, wrapper: flip-word-order}
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return path


def test_defaults_are_the_contract_s(config_file):
    config = load_config(config_file)
    batches = config.batches
    assert (config.seed, batches.batch_size, batches.safe_ratio, batches.partial) == (42, 16, 0.5, "keep")
    assert (batches.max_length, batches.max_answer) == (2048, 128)
    assert (config.respond.recorded, config.train.router.lr, config.identify.matches) == (True, 1e-4, "causal")
    assert (config.respond.max_new_tokens, config.respond.temperature, config.respond.filter) == (128, 1.0, True)
    assert (config.data.only_successful, config.data.test_fraction, config.data.validation_fraction) == (True, 0.2, 0.1)


def test_dumped_configuration_loads_to_itself(config_file, tmp_path):
    config = load_config(config_file, ["respond.temperature=5e-5", "data.benign=[{path: c.jsonl}]"])
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert load_config(again) == config
    assert config.respond.temperature == 5e-5


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("batches.bach_size=3", "batches.bach_size: unknown key, did you mean 'batch_size'?"),
        ("data.attacks.0.pth=x", "data.attacks.0.pth: unknown key, did you mean 'path'?"),
        ("data.controls.wraper=x", "data.controls.wraper: unknown key, did you mean 'wrapper'?"),
        ("sed=1", "sed: unknown key, did you mean 'seed'?"),
        (
            "identify.gradient_masks=per_batch",
            "identify.gradient_masks: is `masks` now, for every method: write `masks: batch`",
        ),
        ("identify.threshold=-0.1", "identify.threshold: input should be greater than or equal to 0"),
        ("identify.min_score=-0.1", "identify: min_score -0.1 is below 0, where effect finds no guilt"),
        ("batches.batch_size=1", "batches.batch_size: input should be greater than or equal to 2"),
        ("batches.batch_size='16'", "batches.batch_size: input should be a valid integer"),
        ("seed=true", "seed: input should be a valid integer"),
        ("batches.safe_ratio=1.0", "batches.safe_ratio: input should be less than 1"),
        ("batches.safe_ratio=-0.1", "batches.safe_ratio: input should be greater than or equal to 0"),
        ("batches.safe_ratio=0.99", "batches: safe_ratio 0.99 leaves no unsafe row in a batch of 16"),
        ("data.attacks=[]", "data.attacks: list should have at least 1 item"),
        ("data.attacks.0.dataset=x", "data.attacks.0: give either `path` or `dataset`"),
        (
            "data.attacks.0.columns={gaol: x}",
            "data.attacks.0.columns: no format reads a column 'gaol', did you mean 'goal'",
        ),
        (
            "data.attacks.0.format=flipatack",
            "data.attacks.0.format: there is no format 'flipatack', did you mean 'flipattack'",
        ),
        ("data.attacks.0.name=x", "data.attacks.0: `name` is for a dataset, and this source is a file"),
        ("data.attacks.0.split=test", "data.attacks.0: `split` is for a dataset, and this source is a file"),
        ("data.attacks.0={1: x}", "data.attacks.0: not valid YAML: a key is not text; quote it"),
        ("data.attacks.0={[1]: x}", "data.attacks.0: not valid YAML: a key is not text; quote it"),
        ("respond.replicas=0", "respond.replicas: is at least 1"),
        ("effects.candidates=0", "effects.candidates: is at least 1"),
        ("data.attacks.7.path=x", "data.attacks.7.path: the list has no element 7"),
        ("run_dir=null", "run_dir: input should be a valid string"),
        ("seed.deep=1", "seed: input should be a valid integer"),
        ("seed", "--set takes key.path=value, not 'seed'"),
        ("data.test_fraction=0.95", "data: test_fraction and validation_fraction leave nothing to train on"),
    ],
)
def test_every_mistake_is_one_line_that_names_the_key(config_file, override, complaint):
    with pytest.raises(InputError) as error:
        load_config(config_file, [override])
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("run_dir: x\nmodel: {name: demo}\n")
    with pytest.raises(InputError, match=r"c.yaml, data: a value is required"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1, 2", "row 1: not valid YAML"),
        ("- a\n- b\n", "a mapping of keys to values"),
        ("seed: 1\nseed: 2\n", "row 2: not valid YAML: key 'seed' is given twice"),
    ],
)
def test_broken_yaml_names_the_line(tmp_path, text, complaint):
    path = tmp_path / "c.yaml"
    path.write_text(textwrap.dedent(text))
    with pytest.raises(InputError, match=complaint):
        load_config(path)


def test_keys_can_be_merged_and_overridden(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        GOOD + "respond: {<<: &deep {<<: &job {replicas: 2, max_length: 64}, max_length: 128}}\nevaluate: {<<: *deep}\n"
    )
    config = load_config(path)
    assert (config.respond.replicas, config.evaluate.replicas) == (2, 2)
    assert (config.respond.max_length, config.evaluate.max_length) == (128, 128)


def test_the_home_folder_is_expanded(config_file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/wug")
    config = load_config(config_file, ["run_dir=~/x", "data.attacks.0.path=~/a.json"])
    assert (config.run_dir, config.data.attacks[0].path) == ("/home/wug/x", "/home/wug/a.json")


def test_no_such_file_and_invalid_utf8(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_config(tmp_path / "missing.yaml")
    path = tmp_path / "c.yaml"
    path.write_bytes(b"run_dir: \xff")
    with pytest.raises(InputError, match="not valid UTF-8"):
        load_config(path)


def test_resources_are_no_part_of_what_decides_results(config_file):
    one = load_config(config_file, ["respond.replicas=1", "respond.gpus_per_replica=2"])
    two = load_config(config_file, ["respond.replicas=2"])
    assert results_only(one.respond) == results_only(two.respond)
    assert results_only(one.respond) != results_only(load_config(config_file, ["respond.temperature=0.0"]).respond)


def test_local_places_are_told_from_the_root(tmp_path, monkeypatch):
    """Workers may stand in another folder than the command."""
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    here = Path(__file__).parents[2]
    config = load_config(here / "configs/demo.yaml", ["run_dir=runs/one", "model.name=model"])
    assert (config.run_dir, config.model.name) == (str(tmp_path / "runs/one"), str(tmp_path / "model"))
    for place in ("s3://bucket/run?region=eu-central-1", "demo"):
        assert load_config(here / "configs/demo.yaml", [f"model.name={place}"]).model.name == place


@pytest.mark.parametrize("value", ["2024-13-45", "2024-01-31", "!!timestamp 2024-13-45", "!!int zorp"])
def test_what_is_no_number_is_said_in_a_line(config_file, value):
    with pytest.raises(InputError, match="seed: "):
        load_config(config_file, [f"seed={value}"])
    text = config_file.read_text()
    config_file.write_text(f"{text}\nseed: {value}\n")
    with pytest.raises(InputError, match=re.escape(str(config_file))):
        load_config(config_file)


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("{x: 1}", "{{p: *a{0}, q: *a{0}}}"),
        ("[x]", "[*a{0}, *a{0}]"),
        ("{x: 1}", "{{<<: [*a{0}, *a{0}]}}"),
    ],
    ids=["mapping", "list", "merged"],
)
def test_aliases_that_write_out_to_more_than_memory_holds_are_refused(tmp_path, first, line):
    path = tmp_path / "c.yaml"
    path.write_text("\n".join([f"a0: &a0 {first}", *(f"a{n}: &a{n} {line.format(n - 1)}" for n in range(1, 40))]))
    with pytest.raises(InputError, match="its aliases, written out, make more than 100000 values"):
        load_config(path)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("&a [*a]", "an alias stands inside what it names"), ("[" * 5000 + "]" * 5000, "nested too deeply")],
    ids=["itself", "deep"],
)
def test_values_without_end_are_refused(config_file, value, complaint):
    with pytest.raises(InputError, match=f"seed: not valid YAML: {complaint}"):
        load_config(config_file, [f"seed={value}"])
