"""Another setting of the chat template is another form of every prompt: no stage goes on from what stands."""

import pyarrow as pa
import pytest

from moe_safety.arms import own_arm
from moe_safety.batches import compose, respond
from moe_safety.batches.encoded import Encoder
from moe_safety.batches.files import write_batches
from moe_safety.batches.mixed import BATCHES_SCHEMA
from moe_safety.effects import effects
from moe_safety.errors import InputError
from moe_safety.evaluate.evaluated_models import base_subject
from moe_safety.evaluate.session import Session
from moe_safety.gradients import gradients
from moe_safety.identify.identify import identify
from moe_safety.inputs.prepare import prepare
from moe_safety.models.io import load_chat
from moe_safety.pipeline import STAGES
from moe_safety.routing import capture
from moe_safety.rundir import Outcome, RunDir, check_not_refused, run_work
from moe_safety.train.train import training_of
from tests.demo import demo

MODULES = {"respond": respond, "compose": compose, "capture": capture, "gradients": gradients, "effects": effects}


@pytest.fixture
def works(tmp_path, monkeypatch):
    """What every stage would do by a configuration, in a run directory where its inputs stand."""

    def asked(*flags):
        found = {}
        for name, module in MODULES.items():
            monkeypatch.setattr(module, "perform", lambda config, work, *_, name=name, **__: found.update({name: work}))
        config = demo(tmp_path / "run", *flags)
        for name, module in MODULES.items():
            getattr(module, name)(config)
        run = RunDir(config.run_dir)
        found["train"] = training_of(own_arm(config))
        found["evaluate"] = Session(config, run).stage(base_subject(config))
        return config, found

    config = demo(tmp_path / "run")
    prepare(config)
    run = RunDir(config.run_dir)
    write_batches(run, pa.Table.from_pylist([], schema=BATCHES_SCHEMA), Encoder(load_chat(config.model), 256, 128))
    run.write_json("selection.json", {})
    return asked


def test_every_stage_refuses_to_go_on_from_another_template_setting(works):
    config, before = works()
    run = RunDir(config.run_dir)
    for work in before.values():
        run_work(run, work, {}, lambda: Outcome((), {}))
        check_not_refused(run, work)
    other, after = works("model.chat_template_kwargs={enable_thinking: false}")
    for name, work in after.items():
        with pytest.raises(InputError, match=r"was run with model\.chat_template_kwargs.* = .*; use --force") as told:
            check_not_refused(run, work)
        assert "\n" not in str(told.value), name
    with pytest.raises(InputError, match=r"`compose` was run with model\.chat_template_kwargs"):
        identify(other)
    # `compare` and `report` put together what these left, anew each time; `prepare` knows of no model.
    assert {*after, "identify", "compare", "report", "prepare"} == set(STAGES.names())
