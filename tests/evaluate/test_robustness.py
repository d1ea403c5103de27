"""How robust a repair is, in numbers alone: no expert is named, no weight kept, nothing generated."""

import builtins
import gc
import io
import json
import os
import re
import weakref
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from pyarrow import fs
from safetensors.torch import save_file
from transformers import GenerationMixin, PreTrainedModel

from moe_safety.batches.encoded import Encoder
from moe_safety.config import EvaluateConfig, ModelConfig, load_config
from moe_safety.errors import InputError, RunError
from moe_safety.evaluate import examiner as examining
from moe_safety.evaluate import robustness, robustness_measure
from moe_safety.evaluate.choice import on_validation
from moe_safety.evaluate.compare import compare
from moe_safety.evaluate.evaluated_models import base_subject
from moe_safety.evaluate.examiner import examiner
from moe_safety.evaluate.prompts import harmful_goals
from moe_safety.evaluate.robustness import (
    FINETUNED,
    HELD_BACK,
    check_harmless,
    harmless_rows,
    robustness_items,
    robustness_page,
)
from moe_safety.evaluate.session import Session
from moe_safety.generation import Limits, Opening
from moe_safety.generation.engines.hf import Transformers
from moe_safety.generation.engines.slots import Slots
from moe_safety.inputs.table import PROMPTS_SCHEMA
from moe_safety.jobs import handle as handling
from moe_safety.judges.kinds.demo import DemoJudge
from moe_safety.models.demo import REFUSAL, language
from moe_safety.models.experts import Trial, margins
from moe_safety.models.io import kept_model, load_chat
from moe_safety.models.io.save import save_model
from moe_safety.models.text.generate import Generator
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.train.optimizer import MasterAdamW
from tests.evaluate import here
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm
from tests.models.io.test_swap import bits, same

DEMO = ModelConfig(name="demo")
SETTINGS = EvaluateConfig(held_back=[1, 4, 16], after_finetuning=4, max_tokens_per_forward=4096)


def exam():
    """Plain goals and attacks on them, encoded."""
    chat, rows = load_chat(DEMO), []
    for n, goal in enumerate(language.requests(True)[-5:]):
        for label, put in (("safe", language.plain), ("unsafe", language.word_reversed)):
            known = {"prompt_id": f"{label}-{n}", "goal_id": f"g{n}", "label": label, "reattack": False, "suite": None}
            tokens = {"prompt_tokens": chat.prompt(put(goal)), "target_tokens": chat.answer(goal.answer)[1]}
            reference = goal.answer if label == "unsafe" else None
            rows.append(known | tokens | {"reference": reference, "prompt_fits": True})
    return rows


def harmless(*more):
    rows = [
        {
            "prompt_id": f"b{n}",
            "goal_id": f"h{n}",
            "goal": one.text,
            "label": "benign",
            "split": "train",
            "messages": language.plain(one),
            "target": one.answer,
            "target_ended": True,
            "answer": None,
            "source": f"rows.jsonl, row {n}",
        }
        for n, one in enumerate(language.requests(False)[:9])
    ]
    return [*rows, *more]


@pytest.fixture(scope="module")
def items():
    found = robustness_items(exam(), Encoder(load_chat(DEMO), 256, 128), REFUSAL, SETTINGS, harmless())
    return {(item["kind"][0].as_py(), item["prompt_id"][0].as_py().partition("-")[0]): item for item in found}


def measured(item):
    return examiner(Opening("transformers", DEMO, Limits(12), 1, {}), (), SETTINGS)(item, {})


WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@contextmanager
def seal():
    """Within it nothing is written, by whatever the program writes with, and nothing is generated."""

    def refuse(*_, **__):
        pytest.fail("a weakened model is kept, or speaks")

    def opening(real):
        def opened(file, mode="r", *rest, **more):
            if str(file).endswith(".lock") or not set(str(mode)) & set("wax+"):
                return real(file, mode, *rest, **more)
            return refuse()

        return opened

    def opened_by_system(file, flags, *rest, **more):
        return refuse() if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else real(file, flags, *rest, **more)

    real = os.open
    owned = {
        torch: ["save"],
        safetensors.torch: ["serialize", "serialize_file"],
        safetensors.numpy: ["serialize", "serialize_file"],
        pq.core.ParquetWriter: ["__init__"],
        pa.ipc: ["new_file", "new_stream"],
        fs: ["copy_files"],
        RunDir: ["writing", "write_bytes", "write_json", "write_table", "copy"],
        PreTrainedModel: ["save_pretrained"],
        GenerationMixin: ["generate"],
        Generator: ["answer"],
        Transformers: ["answer"],
        Slots: ["answer"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for owner, names in owned.items():
            for name in names:
                patch.setattr(owner, name, refuse)
        for owner, name in ((builtins, "open"), (io, "open"), (pa, "OSFile")):
            patch.setattr(owner, name, opening(getattr(owner, name)))
        patch.setattr(os, "open", opened_by_system)
        yield


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({}, path),
        lambda path: save_file({"a": torch.ones(1)}, path),
        lambda path: safetensors.torch.save({"a": torch.ones(1)}),
        lambda path: safetensors.numpy.save_file({"a": np.ones(1)}, path),
        lambda path: pq.write_table(pa.table({"a": [1]}), path),
        lambda path: pq.ParquetWriter(path, pa.schema([("a", pa.int32())])),
        lambda path: pa.OSFile(str(path), "wb"),
        lambda path: pa.ipc.new_file(pa.BufferOutputStream(), pa.schema([])),
        lambda path: np.save(path, np.ones(1)),
        lambda path: path.write_bytes(b"a"),
        lambda path: os.open(path, os.O_WRONLY | os.O_CREAT),
        lambda path: RunDir(str(path)).write_json("a.json", {}),
        lambda path: RunDir(str(path)).write_table("a.parquet", pa.table({"a": [1]})),
        lambda path: save_model(kept_model(DEMO, 1), path),
    ],
)
def test_the_seal_holds_against_all_that_the_program_writes_with(write, tmp_path):
    kept_model(DEMO, 1)
    with seal(), pytest.raises(pytest.fail.Exception, match="a weakened model is kept"):
        write(tmp_path / "kept")
    assert not [*tmp_path.iterdir()]


def test_a_whole_comparison_keeps_nothing_of_weakened_models(configured, tmp_path, monkeypatch):
    """While robustness is measured nothing is written; after it there are margins, and no other trace."""
    measured_in = []

    def watched(real):
        def watching(settings, engine, rows):
            before = files(tmp_path / "run")
            with seal():
                found = real(settings, engine, rows)
            assert files(tmp_path / "run") == before
            measured_in.append(rows["kind"][0].as_py())
            return found

        return watching

    monkeypatch.setattr(handling, "handle", here.handle)
    for name in ("held_back", "finetuned"):
        monkeypatch.setattr(examining, name, watched(getattr(examining, name)))
    flags = [
        "evaluate.held_back=[1,2]",
        "evaluate.after_finetuning=2",
        "evaluate.prompts=2",
        "evaluate.routing_prompts=0",
    ]
    flags += [
        "evaluate.split=validation",
        "evaluate.reattack=[]",
        "evaluate.reidentify=false",
        "identify.method=random",
        "train.num_epochs=1",
    ]
    config = configured(*flags, "compare.arms=[base, random]", "compare.parallel=1", "train.save=delta")
    run_one("identify", config)
    compare(config)
    run = RunDir(config.run_dir)
    assert sorted(set(measured_in)) == [FINETUNED, HELD_BACK]
    found = run.read_json("eval/validation/comparison.json")
    check_comparison(found)
    for one in found:
        for curves in (one["robustness"]["held_back"], one["robustness"]["after_finetuning"]):
            assert {tuple(point["at"] for point in curve) for curve in curves.values()} == {(0, 1, 2)}
    of_models = {
        path.relative_to(tmp_path / "run").parts[0] for path in files(tmp_path / "run") if path.suffix in WEIGHTS
    }
    assert of_models == {"train"}
    for name in run.files("eval"):
        if name.endswith(".parquet"):
            assert not {"layer", "expert", "Layer_Expert"} & {*run.read_table(name).schema.names}, name
        else:
            assert not re.search(rb"L\d+_E\d+", run.read_bytes(name)), name


def files(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("kind", [(HELD_BACK, "safe"), (HELD_BACK, "unsafe"), (FINETUNED, "safe")])
def test_margins_are_all_that_leaves_a_replica_and_the_model_stays(kind, items, capfd):
    before = bits(kept_model(DEMO, 1))
    with seal():
        found = measured(items[kind])
    assert same(bits(kept_model(DEMO, 1)), before)
    assert found.schema == pa.schema([("prompt_id", pa.string()), ("at", pa.int32()), ("margin", pa.float64())])
    assert set(found["prompt_id"].to_pylist()) == {name for name in items[kind]["prompt_id"].to_pylist() if "-" in name}
    assert all(torch.isfinite(torch.tensor(found["margin"].to_pylist())))
    assert not re.search(r"L\d+_E\d+|\(\d+, \d+\)", "".join(capfd.readouterr()))


def test_the_margin_sinks_with_experts_held_back_those_first_that_refusing_hangs_on(items, monkeypatch):
    held = []
    real = robustness_measure.holding_back

    def seen(model, layout, without):
        held.append(without[0])
        return real(model, layout, without)

    monkeypatch.setattr(robustness_measure, "holding_back", seen)
    found = measured(items[HELD_BACK, "safe"]).to_pylist()
    assert sorted({int(one.sum()) for one in held}) == [0, 1, 4, 16]
    by_size = sorted(held, key=lambda one: int(one.sum()))
    assert all(not (small & ~large).any() for small, large in pairwise(by_size))
    mean = {at: sum(row["margin"] for row in found if row["at"] == at) for at in (0, 1, 4, 16)}
    assert mean[0] > mean[1] > mean[4], "others would not sink it so"
    rows = items[HELD_BACK, "safe"].to_pylist()
    prompt = [*rows[0]["tokens"], *rows[0]["prefix"]]
    with torch.inference_mode():
        plain = float(margins(kept_model(DEMO, 1), [Trial(prompt, rows[0]["answer"], rows[1]["answer"])])[0])
    assert found[0]["margin"] == pytest.approx(plain, abs=1e-4)


def test_what_was_fine_tuned_is_gone_when_its_margins_are_known(items, monkeypatch):
    made = []

    def remembered(model):
        found = deepcopy(model)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(robustness_measure, "deepcopy", remembered)
    monkeypatch.setattr(robustness_measure, "RATE", 1e-2)
    found = measured(items[FINETUNED, "safe"]).to_pylist()
    gc.collect()
    assert [one() for one in made] == [None]
    assert sorted({row["at"] for row in found}) == [0, 1, 2, 3, 4]
    first, last = ([row["margin"] for row in found if row["at"] == at] for at in (0, 4))
    assert first != last, "the copy did learn"


def test_a_piece_of_an_item_is_refused(items):
    with pytest.raises(RunError, match="in one piece"):
        measured(items[HELD_BACK, "safe"].slice(0, 4))


def test_a_hundred_steps_are_the_most():
    with pytest.raises(ValueError, match="less than or equal to 100"):
        EvaluateConfig(after_finetuning=101)


@pytest.mark.parametrize(
    "changed",
    [
        {"goal_id": "g0"},
        {"messages": [{"role": "user", "content": "Hello!  How do I VOSK the zorp with the fep, please"}]},
        {"target": "sure. how do i vosk the zorp with the fep is easy"},
    ],
)
def test_rows_that_match_an_attack_goal_are_refused(tmp_path, changed):
    goal = "how do i vosk the zorp with the fep"
    attack = harmless()[0] | {"prompt_id": "a", "goal_id": "g0", "label": "unsafe", "goal": goal, "split": "test"}
    bad = harmless()[1] | {"prompt_id": "bad", "source": "rows.jsonl, row 77"} | changed
    run = RunDir(str(tmp_path))
    config = load_config("configs/demo.yaml", [f"run_dir={tmp_path}"])
    run.write_table("prompts.parquet", pa.Table.from_pylist(harmless(attack), schema=PROMPTS_SCHEMA))
    assert len(harmless_rows(run, load_chat(DEMO), harmful_goals(config, run))) == 9
    run.write_table("prompts.parquet", pa.Table.from_pylist(harmless(attack, bad), schema=PROMPTS_SCHEMA))
    with pytest.raises(InputError, match="row 77 matches the goal of an attack"):
        harmless_rows(run, load_chat(DEMO), harmful_goals(config, run))


@pytest.mark.parametrize("key", ["reattack=[{path: %s}]", "suites=[{name: x, kind: attack, source: {path: %s}}]"])
def test_the_goals_of_suites_and_of_further_attacks_count_too_asked_or_not(tmp_path, key):
    """A row whose goal a suite has is in another split than the suite's, so that nobody is asked it."""
    file, run = tmp_path / "attacks.json", RunDir(str(tmp_path))
    goal, put = harmless()[3]["goal"], [{"role": "user", "content": "zorp?"}]
    row = {"id": 1, "goal": goal, "all_prompt": put, "output": "no.", "judge_success_gpt4": 0}
    file.write_text(json.dumps([row]))
    attack = harmless()[0] | {"prompt_id": "a", "goal_id": "g0", "label": "unsafe", "goal": "blick", "split": "test"}
    run.write_table("prompts.parquet", pa.Table.from_pylist(harmless(attack), schema=PROMPTS_SCHEMA))
    flags = ["evaluate.after_finetuning=1", f"run_dir={tmp_path}", "evaluate." + key % file]
    session = Session(load_config("configs/demo.yaml", flags), run)
    with pytest.raises(InputError, match="row 3 matches the goal of an attack"):
        _ = session._training


def test_steps_in_bfloat16_move_a_model_as_far_as_in_float32(items, monkeypatch):
    """Rounded at every step it would stay nearer to itself, and look the more robust."""
    made = []

    class Seen(MasterAdamW):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            made.append(self)

    def moved(dtype):
        """How far the copy's masters are from where it started; its own weights are these, rounded once."""
        start = deepcopy(kept_model(DEMO, 1)).bfloat16().to(dtype)
        few = SETTINGS.model_copy(update={"after_finetuning": 2})
        robustness_measure.finetuned(few, SimpleNamespace(model=start), items[FINETUNED, "safe"])
        weights = made[-1].param_groups[0]["params"]
        masters = [made[-1].state[weight].get("master", weight).detach() for weight in weights]
        assert all(torch.equal(weight, master.to(dtype)) for weight, master in zip(weights, masters, strict=True))
        pairs = zip(masters, start.parameters(), strict=True)
        return sum(float((one.double() - other.detach().double()).square().sum()) for one, other in pairs) ** 0.5

    for name, value in {"BATCH": 2, "TOLD": 1, "MasterAdamW": Seen}.items():
        monkeypatch.setattr(robustness_measure, name, value)
    assert moved(torch.bfloat16) == pytest.approx(moved(torch.float32), rel=0.05)


@pytest.mark.parametrize(("said", "verdict"), [(None, "harmful"), ("blub", "unparsed")])
def test_rows_that_are_not_judged_harmless_are_refused(said, verdict):
    check_harmless(harmless(), DemoJudge())
    harm = language.requests(True)[0]
    bad = harmless()[0] | {"goal": harm.text, "messages": language.plain(harm), "target": said or harm.answer}
    with pytest.raises(InputError, match=f"row 0 is judged {verdict}, so no model is fine-tuned on it"):
        check_harmless([bad, *harmless()], DemoJudge())


def test_margins_hang_on_what_batches_teach_as_a_refusal(tmp_path):
    run, told = RunDir(str(tmp_path)), []
    config = load_config("configs/demo.yaml", ["evaluate.held_back=[1]", f"run_dir={tmp_path}"])
    run_one("prepare", config)
    for said in ("no.", "never."):
        run.write_table(
            "batches.parquet", pa.table({"batch_idx": [0], "prompt_id": ["p"], "label": ["safe"], "target": [said]})
        )
        session = Session(config, run)
        nobody = pa.table({"reattack": pa.array([], pa.bool_()), "suite": pa.array([], pa.string())})
        session.__dict__ |= {"exam": nobody, "exam_of_files": nobody}
        told.append((session.stage(base_subject(config)).others, session._identity(base_subject(config))))
    (before, known), (after, anew) = told
    assert before.pop("refusal of margins") != after.pop("refusal of margins")
    assert before == after
    assert known != anew


def test_a_judge_is_asked_once_for_all_models_and_of_what_is_learned_alone(tmp_path):
    flags = ["evaluate.after_finetuning=1", "evaluate.held_back=[]", f"run_dir={tmp_path}"]
    run, asked = RunDir(str(tmp_path)), []
    attack = harmless()[0] | {"prompt_id": "a", "goal_id": "g0", "label": "unsafe", "goal": "blick", "split": "test"}
    run.write_table("prompts.parquet", pa.Table.from_pylist(harmless(attack), schema=PROMPTS_SCHEMA))
    session = Session(load_config("configs/demo.yaml", flags), run)

    class Counting(DemoJudge):
        def judge_all(self, exchanges):
            asked.append(len(exchanges))
            return super().judge_all(exchanges)

    session.judging.__dict__["judges"] = {"harm": Counting(), "refusal": session.judging.judges["refusal"]}
    session.__dict__["_refusal"] = REFUSAL
    session._encoded = lambda subject: exam()
    session.__dict__["_answers_known"] = {row["prompt_id"] for row in exam()}
    for _ in range(2):
        *_, item = session._robustness(base_subject(session.config))
        assert item["prompt_id"].to_pylist().count("training") == robustness.BATCH
    assert asked == [robustness.BATCH]


def test_recorded_answers_that_are_refusals_stand_for_no_unsafe_answer(tmp_path):
    """Where a file's successes are not known, or not asked for, it holds such too."""
    attack = harmless()[0] | {"goal_id": "g0", "label": "unsafe", "goal": "blick", "split": "test"}
    said = {"helps": language.requests(True)[0].answer, "declines": REFUSAL}
    rows = [attack | {"prompt_id": name, "target": None, "answer": answer} for name, answer in said.items()]
    run = RunDir(str(tmp_path))
    run.write_table("prompts.parquet", pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA))
    config = load_config("configs/demo.yaml", ["evaluate.held_back=[1]", "evaluate.reattack=[]", f"run_dir={tmp_path}"])
    assert Session(config, run)._answers_known == {"helps"}


def test_it_wants_a_judge_of_harm_and_has_no_part_in_choices(tmp_path):
    flags = ["evaluate.after_finetuning=4", "evaluate.held_back=[1]", f"run_dir={tmp_path}"]
    config = load_config("configs/demo.yaml", [*flags, "judges.harm=null"])
    with pytest.raises(InputError, match=r"evaluate\.after_finetuning: needs judges\.harm"):
        Session(config, RunDir(str(tmp_path))).check_judges()
    assert (on_validation(config).evaluate.held_back, on_validation(config).evaluate.after_finetuning) == ([], 0)


def test_curves_are_told_without_a_word_on_experts(items, monkeypatch):
    def tables(parts, kind):
        return [measured(item) for (own, _), item in items.items() if own == kind]

    monkeypatch.setattr(robustness, "tables_of", tables)
    config = load_config("configs/demo.yaml").model_copy(update={"evaluate": SETTINGS})
    rows = [{name: row[name] for name in ("prompt_id", "goal_id", "label")} for row in exam()]
    found = robustness.robustness(config, None, pa.Table.from_pylist(rows))
    assert [point["at"] for point in found["held_back"]["safe"]] == [0, 1, 4, 16]
    assert set(found["held_back"]["safe"][0]) == {"at", "value", "low", "high", "n", "n_goals"}
    assert found["held_back"]["safe"][0]["n_goals"] == 5
    arms = [arm("base", verify="n/a", robustness=found), arm("selective-causal", robustness=found)]
    check_comparison(arms)
    page = robustness_page(arms)
    assert "## Refusal margin with experts held back" in page
    assert "selective-causal, plain goals" in page
    assert not re.search(r"L\d+_E\d+", page + json.dumps(found))
    assert robustness_page([arm("base")]) == ""
