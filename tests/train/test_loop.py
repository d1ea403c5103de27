"""The order of batches, what a step adds up to, and going on after a stop."""

import json
import math
import os
import resource
import signal
import time
from contextlib import ExitStack

import pytest
import torch

from moe_safety.batches import Batch, Example
from moe_safety.errors import RunError
from moe_safety.models import inspect_model
from moe_safety.models.experts import SelectiveExperts, selective_experts, use_our_experts
from moe_safety.models.routers import recording
from moe_safety.models.text.answer_losses import answer_losses
from moe_safety.rundir import RunDir
from moe_safety.stopping import Stopped, stoppable
from moe_safety.train.checkpoint import Checkpoints
from moe_safety.train.data import check_whole, micro_batches, rows_of
from moe_safety.train.engines import PlainEngine
from moe_safety.train.phases import ExpertPhase
from moe_safety.train.sampler import BatchPreservingSampler
from moe_safety.train.world import World
from tests.families import build
from tests.train.tiny import BATCHES, Case, TinyData, masks_of, run_case, spoiled_in_its_fourth_pass


def test_batches_stay_whole_and_in_order():
    batch_idx = [7, 7, 2, 2, 2, 5, 9, 9]
    seen = {tuple(rows) for rows in BatchPreservingSampler(batch_idx, seed=3)}
    assert seen == {(0, 1), (2, 3, 4), (5,), (6, 7)}


def test_workers_share_an_epoch_and_none_is_dropped():
    whole = BatchPreservingSampler(TinyData().batch_idx, seed=3)
    parts = [BatchPreservingSampler(TinyData().batch_idx, rank=rank, world=2, seed=3) for rank in (0, 1)]
    for epoch in range(3):
        for sampler in (whole, *parts):
            sampler.set_epoch(epoch)
        assert [part.mine() for part in parts] == [whole.order()[::2], whole.order()[1::2]]
        assert sorted(whole.order()) == list(range(BATCHES))


def test_order_follows_from_seed_and_epoch():
    sampler = BatchPreservingSampler(range(50), seed=1)
    first = sampler.order()
    sampler.set_epoch(1)
    assert sampler.order() != first
    sampler.set_epoch(0)
    assert sampler.order() == first != BatchPreservingSampler(range(50), seed=2).order()
    assert BatchPreservingSampler(range(50), shuffle=False).order() == list(range(50))


def test_a_step_with_rows_of_another_batch_is_refused():
    rows = [Example(1, 0, "safe", [1], [2]), Example(1, 1, "safe", [1], [2])]
    check_whole(1, rows, 2)
    for wrong in (rows[::-1], rows[:1], [rows[0], Example(2, 1, "safe", [1], [2])]):
        with pytest.raises(RunError, match="batch 1 was to be trained whole"):
            check_whole(1, wrong, 2)


def test_a_step_is_made_with_whole_batches_and_their_own_masks_or_not_at_all(monkeypatch):
    """Each step looks, so that whatever is wrong elsewhere cannot pass."""
    rows = BatchPreservingSampler.rows
    with monkeypatch.context() as broken:
        broken.setattr(BatchPreservingSampler, "rows", lambda self, batch: rows(self, batch)[::-1])
        with pytest.raises(RunError, match=r"batch \d was to be trained whole, and rows"):
            run_case(Case(epochs=1))
    with monkeypatch.context() as broken:
        broken.setattr("moe_safety.train.phases.experts.micro_batches", lambda examples, *how: [examples[1:]])
        with pytest.raises(RunError, match=r"micro-batches of batch \d do not hold each of its rows once"):
            run_case(Case(epochs=1))
    monkeypatch.setattr(SelectiveExperts, "set_active", lambda self, experts: None)
    with pytest.raises(RunError, match=r"are not the mask of batch \d"):
        run_case(Case(epochs=1))


def test_micro_batches_add_up_to_the_batch():
    whole, cut = run_case(Case(epochs=1)), run_case(Case(epochs=1, micro=8))
    assert len(micro_batches(TinyData().examples[:3], 8)) > 1
    for name, tensor in whole["history"][1].items():
        # Adam makes steps of 1e-2 out of gradients however small, their rounding included.
        torch.testing.assert_close(cut["history"][1][name], tensor, rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_mean_over_answer_tokens_alone():
    found = run_case(Case(epochs=1))
    model = use_our_experts(build("olmoe")).eval()
    row = found["log"][0]
    values = []
    for example in TinyData().examples:
        if example.batch_idx == row["batch_idx"][0]:
            logits = model(torch.tensor([example.prompt + example.target])).logits[0]
            values += [
                -torch.log_softmax(logits[len(example.prompt) + n - 1], -1)[token].item()
                for n, token in enumerate(example.target)
            ]
    assert math.isclose(row["loss"], sum(values) / len(values), rel_tol=1e-5)


def test_only_rows_of_the_named_kinds_are_learned():
    """Others stand in their batch, and leave no trace in its loss or its gradients."""
    found = run_case(Case(epochs=1, labels=("safe",)))
    model = use_our_experts(build("olmoe")).eval()
    row = found["log"][0]
    (safe,) = (one for one in TinyData().examples if one.batch_idx == row["batch_idx"][0] and one.label == "safe")
    loss = answer_losses(model, rows_of([safe], torch.device("cpu")))[0].mean()
    assert math.isclose(row["loss"], loss.item(), rel_tol=1e-5)
    assert found["log"] != run_case(Case(epochs=1))["log"]
    nothing = run_case(Case(epochs=1, labels=("benign",)))
    assert all(each["loss"] == 0 for each in nothing["log"])
    assert all(torch.equal(tensor, nothing["history"][0][name]) for name, tensor in nothing["after"].items())


def test_a_step_costs_no_more_for_many_batches():
    """An order is drawn once an epoch, and a batch's rows are known."""
    sampler = BatchPreservingSampler([row // 4 for row in range(200_000)], world=2)
    started = time.perf_counter()
    for step in range(20_000):
        sampler.set_epoch(step // 10_000)
        assert len(sampler.rows(sampler.mine()[step % 1000])) == 4
    assert time.perf_counter() - started < 2


def test_padding_changes_no_loss():
    examples = TinyData().examples[:3]
    model = use_our_experts(build("olmoe")).eval()
    rows = rows_of(examples, torch.device("cpu"))
    loss = answer_losses(model, rows)[0]
    for row, example in enumerate(examples):
        rows.input_ids[row, len(example) :] = 77
    # Padding is routed too, so experts' sums may be cut otherwise.
    torch.testing.assert_close(answer_losses(model, rows)[0], loss, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clock", ["goes on", "jumps back"])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, monkeypatch, clock):
    whole = run_case(Case(epochs=3, folder=str(tmp_path / "whole")))
    stopped = Case(epochs=3, folder=str(tmp_path / "stopped"), checkpoint_every=4, stop_after=10)
    run_case(stopped)
    stopped.stop_after = None
    if clock == "jumps back":
        monkeypatch.setattr(time, "time", lambda: 0.0)
        for number, file in enumerate(sorted((tmp_path / "stopped").rglob("*"))):
            os.utime(file, (10**9 - number, 10**9 - number))
    resumed = run_case(stopped)
    assert [row["step"] for row in resumed["log"]] == list(range(15))
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in each["log"]] for each in (whole, resumed)]
    assert strip[0] == strip[1]
    assert all(torch.equal(tensor, resumed["after"][name]) for name, tensor in whole["after"].items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_of_the_very_step(tmp_path, number):
    whole = run_case(Case(epochs=2, folder=str(tmp_path / "whole")))
    case = Case(epochs=2, folder=str(tmp_path / "stopped"), signal_after=(4, number))
    with pytest.raises(Stopped), stoppable():
        run_case(case)
    assert [file.name for file in (tmp_path / "stopped" / "checkpoints").glob("*.json")] == ["step-00000005.json"]
    case.signal_after = None
    resumed = run_case(case)
    assert [row["batch_losses"] for row in resumed["log"]] == [row["batch_losses"] for row in whole["log"]]
    assert all(torch.equal(tensor, resumed["after"][name]) for name, tensor in whole["after"].items())


@pytest.mark.parametrize("damage", ["truncated", "gone", "other task", "unreadable", "without its last file"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    case = Case(epochs=3, folder=str(tmp_path), checkpoint_every=4, stop_after=9)
    run_case(case)
    newest = tmp_path / "checkpoints" / "step-00000008"
    if damage == "truncated":
        file = newest / "trained.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "gone":
        (newest / "trained.safetensors").unlink()
    elif damage == "without its last file":
        newest.with_suffix(".json").unlink()
    elif damage == "unreadable":
        newest.with_suffix(".json").write_bytes(b"\x80\x04")
    else:
        marker = newest.with_suffix(".json")
        marker.write_text(json.dumps(json.loads(marker.read_text()) | {"identity": "another"}))
    case.stop_after = 5
    assert run_case(case)["log"][0]["step"] == 4
    names = {path.stem for path in (tmp_path / "checkpoints").glob("*.json")}
    assert names == {"step-00000004", "step-00000008"}, "the new one is there, and the damaged one is not in its way"
    case.stop_after = 1
    assert run_case(case)["log"][0]["step"] == 8


def test_damaged_checkpoints_do_not_outlive_those_that_are_yet_to_come(tmp_path):
    """Being of later steps, they would be the ones to keep."""
    case = Case(epochs=3, folder=str(tmp_path), checkpoint_every=4, stop_after=14)
    run_case(case)
    for number in (8, 12):
        (tmp_path / "checkpoints" / f"step-{number:08d}" / "trained.safetensors").unlink()
    case.stop_after = 5
    assert run_case(case)["log"][0]["step"] == 0
    assert {path.stem for path in (tmp_path / "checkpoints").glob("*.json")} == {"step-00000004"}


def test_a_disk_that_takes_no_checkpoint_ends_the_run_and_loses_nothing(tmp_path):
    whole = run_case(Case(epochs=3, folder=str(tmp_path / "whole")))
    case = Case(epochs=3, folder=str(tmp_path / "run"), checkpoint_every=4, stop_after=6)
    run_case(case)
    case.stop_after = None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(RunError, match=r"step-00000008: .*File too large.*, last checkpoint: .*/step-00000004$"):
            run_case(case)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(left) == ["step-00000004", "step-00000004.json"], "nothing is left of the half"
    resumed = run_case(case)
    assert [row["step"] for row in resumed["log"]] == list(range(15))
    assert all(torch.equal(tensor, resumed["after"][name]) for name, tensor in whole["after"].items())


def test_a_loss_that_is_no_number_ends_the_run(monkeypatch):
    calls = []

    def sometimes(model, rows):
        calls.append(1)
        losses, row = answer_losses(model, rows)
        return losses * (math.nan if len(calls) == 3 else 1), row

    monkeypatch.setattr("moe_safety.models.text.answer_losses.answer_losses", sometimes)
    with pytest.raises(RunError, match=r"loss of batch \d is nan; nothing was overwritten, last checkpoint: none"):
        run_case(Case())


def test_a_gradient_that_is_no_number_ends_the_run_and_no_checkpoint_holds_it(tmp_path, monkeypatch):
    """The loss may be a number all the same."""
    left = spoiled_in_its_fourth_pass(monkeypatch, tmp_path)
    assert left == ["step-00000002", "step-00000002.json"]


@pytest.mark.parametrize("masking", ["union", "routing"])
def test_other_maskings(masking):
    found = run_case(Case(masking=masking, epochs=2))
    layout, masks = found["layout"], masks_of(found["layout"])
    union = set().union(*masks.values())
    for row in found["log"]:
        wanted = len(union) if masking == "union" else len(masks[row["batch_idx"][0]])
        assert row["active_experts"] == [wanted]
    last, first = found["history"][-1], found["history"][0]
    for name, tensor in last.items():
        layer = next((layer for layer in layout.layers if name in layer.parameters), None)
        changed = (tensor != first[name]).flatten(1).any(dim=1).nonzero()[:, 0].tolist() if layer else []
        assert layer or torch.equal(tensor, first[name])
        assert {(layer.index, expert) for expert in changed} <= union if layer else True


def test_replay_keeps_every_token_where_the_first_model_sent_it():
    model = use_our_experts(build("olmoe")).eval()
    layout = inspect_model(model)
    rows = rows_of(TinyData().examples[:3], torch.device("cpu"))
    with ExitStack() as stack:
        selective = stack.enter_context(selective_experts(model, layout.experts()))
        phase = ExpertPhase(model, layout, stack, selective=selective, masks={}, replay=True)
        before = choices(model, layout, rows)
        for own in selective.parameters():
            own.data += torch.randn_like(own) / 2
        assert not torch.equal(choices(model, layout, rows), before)
        with phase._routes(rows):
            assert torch.equal(choices(model, layout, rows), before)


def test_idle_passes_add_nothing():
    """Where another worker has more micro-batches, or a batch where this one has none."""
    model = use_our_experts(build("olmoe")).eval()
    layout, batch = inspect_model(model), Batch(0, TinyData().examples[:3])
    with ExitStack() as stack:
        selective = stack.enter_context(selective_experts(model, layout.experts()))
        phase = ExpertPhase(model, layout, stack, selective=selective, masks={0: layout.experts()})

        def gradients(batch, passes):
            for own in selective.parameters():
                own.grad = None
            return phase.run(batch, [passes], 1.0, torch.Tensor.backward), [own.grad for own in selective.parameters()]

        loss, wanted = gradients(batch, 1)
        again, found = gradients(batch, 3)
        nothing, none = gradients(None, 2)
    assert (again, nothing) == (loss, 0.0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert not any(grad.any() for grad in none)


def choices(model, layout, rows):
    with torch.no_grad(), recording(model, layout) as seen:
        model(rows.input_ids)
        return seen.stack()


def test_a_step_is_the_mean_over_the_batches_that_are_there(monkeypatch):
    """Five batches, two a step: the last step of an epoch holds one, which counts whole."""
    real, scales = ExpertPhase.run, []

    def noted(self, batch, passes, scale, backward):
        scales.append((batch is not None, scale))
        return real(self, batch, passes, scale, backward)

    monkeypatch.setattr(ExpertPhase, "run", noted)
    run_case(Case(per_worker=2, epochs=1))
    assert scales == [(True, 0.5)] * 4 + [(True, 1.0), (False, 1.0)]


def test_clipping_bounds_the_step():
    parameter = torch.nn.Parameter(torch.zeros(4))
    for clip, moved in ((None, 6.0), (1.0, 1.0)):
        parameter.data.zero_()
        engine = PlainEngine({"one": parameter}, torch.optim.SGD([parameter], lr=0.0), clip, World())
        engine.backward((parameter * 3.0).sum(), last=True)
        engine.step(1.0)
        assert float(parameter.detach().norm()) == pytest.approx(moved)


def test_a_phase_that_is_done_leaves_no_half_of_a_checkpoint(tmp_path):
    """As a second Ctrl-C leaves it, in a step at which no later attempt writes one."""
    half = tmp_path / "checkpoints" / "step-00000007"
    half.mkdir(parents=True)
    (half / "trained.safetensors").touch()
    Checkpoints(RunDir(str(tmp_path)), "checkpoints", "same", World()).clear()
    assert not half.parent.exists()
