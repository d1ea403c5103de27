"""What may not move does not, to the bit, in any step, under any engine."""

import os
import pickle
import time

import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from moe_safety.train.optimizer import MOST_STEPS, LazyAdamW, lazy_update
from tests.train.tiny import Case, illegal_moves, run_case, run_workers


def test_twenty_steps_on_plain_pytorch():
    found = run_case(Case())
    assert len(found["log"]) == 20
    wrong, moved = illegal_moves(found)
    assert wrong == []
    assert moved >= found["felt"]
    assert len(moved) > 5
    assert all(torch.equal(found["after"][name], tensor) for name, tensor in found["history"][-1].items())


@pytest.fixture(scope="module")
def under_deepspeed(tmp_path_factory):
    """Two workers, a batch each in every step, cut into two micro-batches or three; and one worker that accumulates
    both whole, on plain PyTorch."""
    folder = tmp_path_factory.mktemp("workers")
    stages = run_workers([Case(stage=stage, epochs=7, rate=1e-3, micro=14) for stage in (1, 2, 3)], 2, folder)
    return {**dict(zip((1, 2, 3), stages, strict=True)), "alone": run_case(Case(per_worker=2, epochs=7, rate=1e-3))}


@pytest.fixture(scope="module")
def plainly(tmp_path_factory):
    """By what is done with the sum of gradients alone: steps of plain gradient descent, of experts and of routers,
    under each engine on two workers, and on one that accumulates."""
    cases = [
        Case(stage=stage, epochs=1, rate=1e-2, micro=14, phase=phase, optimizer=torch.optim.SGD)
        for phase in ("experts", "router")
        for stage in (0, 1, 2, 3)
    ]
    found = dict(
        zip(
            ((case.phase, case.stage) for case in cases),
            run_workers(cases, 2, tmp_path_factory.mktemp("plainly")),
            strict=True,
        )
    )
    for phase in ("experts", "router"):
        found[phase, "alone"] = run_case(
            Case(per_worker=2, epochs=1, rate=1e-2, phase=phase, optimizer=torch.optim.SGD)
        )
    return found


@pytest.mark.parametrize("phase", ["experts", "router"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_of_two_workers_are_those_of_one_that_accumulates(phase, stage, plainly):
    """What a step of gradient descent changes is the gradient: no factor of it can hide, as behind Adam."""
    found, alone = plainly[phase, stage], plainly[phase, "alone"]
    rate = found["log"][0]["learning_rate"]
    for step in (0, 1):
        before, after = (found["history"][step + n] for n in (0, 1))
        moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
        assert moved
        if phase == "router":
            assert all("gate" in name and "proj" not in name for name in moved)
        for name in moved:
            expected = alone["history"][step + 1][name] - alone["history"][step][name]
            torch.testing.assert_close((after[name] - before[name]) / rate, expected / rate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_twenty_steps_under_deepspeed_on_two_workers(stage, under_deepspeed):
    found = under_deepspeed[stage]
    assert len(found["log"]) == 21
    assert found["compiled"] == []
    wrong, moved = illegal_moves(found)
    assert wrong == []
    assert moved >= found["felt"]
    assert len(moved) > 5
    assert all(torch.equal(found["after"][name], tensor) for name, tensor in found["history"][-1].items())


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_workers_equal_one_that_accumulates(stage, under_deepspeed):
    """Also in an epoch's last step, where one of the two has no batch."""
    found, alone = under_deepspeed[stage], under_deepspeed["alone"]
    assert [row["batch_idx"] for row in found["log"]] == [row["batch_idx"] for row in alone["log"]]
    assert [len(row["batch_idx"]) for row in found["log"][:3]] == [2, 2, 1]
    losses = [[row["loss"] for row in each["log"]] for each in (found, alone)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    for name, tensor in found["history"][10].items():
        torch.testing.assert_close(tensor, alone["history"][10][name], rtol=1e-5, atol=1e-5)


def test_the_check_finds_an_optimizer_that_moves_resting_experts():
    wrong, _ = illegal_moves(run_case(Case(optimizer=torch.optim.AdamW)))
    assert len(wrong) > 20


@pytest.mark.parametrize("family", ["gpt_oss", "mixtral", "deepseek_v3", "qwen3_moe"])
def test_clipping_accumulation_and_micro_batches(family):
    found = run_case(Case(family=family, clip=1e-3, per_worker=2, micro=12, epochs=2))
    wrong, moved = illegal_moves(found)
    assert wrong == []
    assert moved


class Trap:
    """Whoever unpickles it runs it."""

    def __init__(self, sprung):
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (self.sprung,)


@pytest.mark.soak
def test_a_foreign_pickle_in_a_deepspeed_checkpoint_is_never_read(tmp_path):
    """DeepSpeed unpickles what it loads, so nothing is loaded whose hash is not the one that was noted."""
    case = Case(stage=2, epochs=3, folder=str(tmp_path / "run"), checkpoint_every=4, stop_after=9)
    run_workers([case], 1, tmp_path)
    newest = tmp_path / "run" / "checkpoints" / "step-00000008"
    states = list(newest.rglob("*.pt"))
    assert states, "DeepSpeed has left something to unpickle"
    for state in states:
        state.write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    case.stop_after = 1
    (resumed,) = run_workers([case], 1, tmp_path)
    assert resumed["log"][0]["step"] == 4
    assert not (tmp_path / "sprung").exists()


@pytest.mark.soak
def test_an_error_of_one_worker_does_not_wait_for_the_others(tmp_path):
    """Under ZeRO-3 making parameters whole takes all of them, and the others know of no error."""
    began = time.monotonic()
    with pytest.raises(ProcessRaisedException, match="of this worker alone"):
        run_workers([Case(stage=3, fails_on=1)], 2, tmp_path)
    assert time.monotonic() - began < 120


@pytest.mark.soak
@pytest.mark.parametrize(("masking", "replay"), [("routing", False), ("gradient", True)])
def test_kernels_are_no_different(masking, replay):
    """With what else is hung into a layer, too."""
    plain, found = (run_case(Case(masking=masking, replay=replay, epochs=1, fused=fused)) for fused in (False, True))
    wrong, moved = illegal_moves(found)
    assert wrong == []
    assert moved
    for one, other in zip(plain["log"], found["log"], strict=True):
        # From the second step on Adam has made steps of the learning rate out of how sums are rounded.
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3 if one["step"] else 1e-5)


def test_bfloat16_weights_follow_their_masters():
    found = run_case(Case(dtype=torch.bfloat16))
    wrong, moved = illegal_moves(found)
    assert wrong == []
    assert moved >= found["felt"]


def test_an_optimizer_that_is_read_back_goes_on_to_the_same_bits():
    """With masters of more bits than the weights have."""
    chance = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=chance).bfloat16()
    grads = [torch.randn(4, 3, generator=chance).bfloat16() for _ in range(6)]

    def stepped(parameter, optimizer, some):
        for grad in some:
            parameter.grad = grad.clone()
            optimizer.step()

    whole = torch.nn.Parameter(start.clone())
    stepped(whole, LazyAdamW([whole], lr=1e-2, weight_decay=0.1), grads)
    first = torch.nn.Parameter(start.clone())
    before = LazyAdamW([first], lr=1e-2, weight_decay=0.1)
    stepped(first, before, grads[:3])
    second = torch.nn.Parameter(first.detach().clone())
    after = LazyAdamW([second], lr=1e-2, weight_decay=0.1)
    after.load_state_dict(before.state_dict())
    assert {key: value.dtype for key, value in after.state[second].items()} == {
        "exp_avg": torch.float32,
        "exp_avg_sq": torch.float32,
        "master": torch.float32,
        "steps": torch.int16,
    }
    stepped(second, after, grads[3:])
    assert torch.equal(second, whole)


@pytest.mark.parametrize("turned", ["parameter", "gradient"])
def test_how_a_tensor_lies_in_memory_changes_nothing(turned):
    chance = torch.Generator().manual_seed(0)
    start, grads = torch.randn(4, 3, generator=chance), torch.randn(5, 4, 3, generator=chance)
    grads[:, 1] = 0
    found = []
    for lies in (False, True):
        parameter = torch.nn.Parameter(start.t().contiguous().t() if lies and turned == "parameter" else start.clone())
        optimizer = LazyAdamW([parameter], lr=0.1, weight_decay=0.1)
        for grad in grads:
            parameter.grad = grad.t().contiguous().t() if lies else grad.clone()
            optimizer.step()
        found.append(parameter.detach())
    assert torch.equal(*found)
    assert torch.equal(found[0][1], start[1])


def test_a_resting_element_keeps_weight_moments_and_count():
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = LazyAdamW([parameter], lr=0.1, weight_decay=0.1)
    reference = torch.nn.Parameter(parameter.detach()[:2].clone())
    ordinary = torch.optim.AdamW([reference], lr=0.1, weight_decay=0.1)
    resting = parameter.detach()[2:].clone()
    for step in range(5):
        grad = torch.randn(4, 3)
        grad[2:] = 0
        parameter.grad, reference.grad = grad, grad[:2].clone()
        optimizer.step()
        ordinary.step()
        if step == 2:
            # A row that was at rest for long starts as on its first step.
            late = torch.nn.Parameter(resting[:1].clone())
    torch.testing.assert_close(parameter[:2], reference, rtol=1e-6, atol=1e-7)
    assert torch.equal(parameter[2:], resting)
    parameter.grad = torch.zeros(4, 3)
    parameter.grad[2] = 1.0
    late.grad = torch.ones(1, 3)
    first = torch.optim.AdamW([late], lr=0.1, weight_decay=0.1)
    optimizer.step()
    first.step()
    torch.testing.assert_close(parameter[2:3], late, rtol=1e-6, atol=1e-7)


def test_a_count_of_steps_that_is_at_its_most_means_the_same_as_a_larger_one():
    grad, found = torch.tensor([0.5, -2.0, 0.0]), []
    for kind, many in ((torch.int16, MOST_STEPS), (torch.int32, 10**6)):
        weight, first, second = torch.ones(3), torch.full((3,), 0.1), torch.full((3,), 0.2)
        steps = torch.full((3,), many, dtype=kind)
        lazy_update(grad, weight, first, second, steps, 0.1, (0.9, 0.999), 1e-8, 0.1)
        assert steps.tolist() == [many] * 3
        found.append(weight)
    assert torch.equal(*found)
