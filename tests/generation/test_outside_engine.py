"""An engine of another package, which answers by rule, in `respond` and `evaluate`."""

import sys
from textwrap import dedent

import pytest

from moe_safety.batches.respond import respond
from moe_safety.errors import InputError
from moe_safety.evaluate.compare import compare
from moe_safety.evaluate.evaluate import evaluate
from moe_safety.generation import ENGINES
from moe_safety.inputs.prepare import prepare
from moe_safety.rundir import RunDir
from tests.demo import demo

CODE = '''
"""`canned`: refuses what is asked plainly, and says yes to all else."""
from moe_safety.config import Section
from moe_safety.generation import Answer, Engine

class Words(Section):
    helpful: str = "sure"

class Canned(Engine):
    name = "canned"
    section = Words
    prompts_per_item = 20

    def __init__(self, model, limits, gpus, settings):
        super().__init__(model, limits, gpus)
        self.helpful = settings.helpful

    def answer(self, prompts, temperatures, seeds):
        return [self.one(self.chat.text(prompt)) for prompt in prompts]

    def one(self, prompt):
        verb = next((word for word in prompt.split() if word in {"blick", "dorf", "glorp", "krump"}), None)
        plain = "reverse" not in prompt and "wizard" not in prompt
        text = "i am sorry, but i cannot help with that." if verb and plain else self.helpful
        tokens = self.chat.answer(text)[1]
        return Answer([], tokens[: self.limits.answer], len(tokens) < self.limits.answer)
'''
YES = "sure, take the fep, hold it by the zorp and pell it."


@pytest.fixture(scope="module")
def canned(tmp_path_factory):
    """Brings the engine as an installed package does, here and in Ray's workers; the folder that it stands in."""
    import ray

    from moe_safety.jobs.cluster import connect

    folder = tmp_path_factory.mktemp("brought")
    info = folder / "canned-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: canned\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[moe_safety.engines]\ncanned = canned_engine:Canned\n")
    (folder / "canned_engine.py").write_text(dedent(CODE))
    with pytest.MonkeyPatch.context() as changed:
        changed.syspath_prepend(folder)
        changed.setenv("PYTHONPATH", str(folder), prepend=":")
        vars(ENGINES).pop("_plugins", None)
        ray.shutdown()  # An earlier test may have started one.
        connect()  # Workers take the environment over.
        yield folder
        ray.shutdown()
    vars(ENGINES).pop("_plugins", None)
    sys.modules.pop("canned_engine", None)


def flags(*more):
    both = [f"{stage}.engine=canned" for stage in ("respond", "evaluate")]
    settings = ["data.max_samples=40", "evaluate.model_path=demo", "evaluate.routing_prompts=2"]
    return [*both, *settings, f'engines={{canned: {{helpful: "{YES}"}}}}', *more]


def test_it_answers_and_the_reference_engine_does_what_it_cannot(canned, tmp_path):
    config = demo(tmp_path / "run", *flags())
    run = RunDir(config.run_dir)
    prepare(config)
    assert "canned_engine" in sys.modules, "its settings were given"
    summary = respond(config)["summary"]
    rows = run.read_table("responses/responses.parquet").to_pylist()
    own = [row["answer"] for row in rows if not row["recorded"]]
    assert set(own) == {YES, "i am sorry, but i cannot help with that."}
    assert summary["own_nats"] == pytest.approx(summary["recorded_nats"], abs=0.1), "weighed by the model itself"
    evaluate(config)
    answers = run.read_table("eval/base/responses.parquet").to_pylist()
    assert {row["answer"] for row in answers if row["label"] == "unsafe"} == {YES}
    report = run.read_json("eval/base.json")
    assert report["overall"]["answered"]["value"] == 1.0
    assert report["benign_exact"]["value"] < 0.5
    assert report["benign_loss"] < 0.1, "the model's own, whatever the engine says"
    for stage in ("respond", "evaluate.base"):
        manifest = run.read_json(f"manifests/{stage}.json")
        assert manifest["inputs"]["engine canned"].startswith("1.2 ")
        assert manifest["settings"]["engines"] == {"canned": {"helpful": YES}}
    assert respond(config)["skipped"]
    another = demo(tmp_path / "run", *flags("engines.canned.helpful=gladly"))
    with pytest.raises(InputError, match=r"`respond` was run with engines\.canned\.helpful = sure.*, now gladly"):
        respond(another)
    file = canned / "canned_engine.py"
    file.write_text(file.read_text() + "# another rule\n")
    for stage, name in ((respond, "respond"), (evaluate, "evaluate/base")):
        with pytest.raises(InputError, match=f"`{name}` was run with another engine canned"):
            stage(config)


def test_an_engine_that_cannot_steer_is_told_of_before_anything_is_trained(canned, tmp_path):
    config = demo(tmp_path / "run", *flags("compare.arms=[base, steering]"))
    told = r"evaluate\.engine: the engine 'canned' cannot keep tokens away from experts"
    with pytest.raises(InputError, match=told):
        compare(config)


def test_an_engine_that_nobody_brings_is_told_with_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"respond\.engine.*no engine 'transformer', did you mean 'transformers'"):
        demo(tmp_path / "run", "respond.engine=transformer")
