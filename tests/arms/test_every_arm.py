"""Every arm of the registry, under plain PyTorch and under ZeRO-2 on two workers: it resumes exactly, and `verify` lets
pass what it may change and nothing else. The default suite takes one of each kind on plain PyTorch."""

import os
import socket
import traceback
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from moe_safety.arms import ARMS, own_arm
from moe_safety.errors import InputError
from moe_safety.identify import Selection
from moe_safety.models.io import model_fingerprint
from moe_safety.pipeline import BATCHES, PROMPTS, run_all
from moe_safety.rundir import Account, RunDir
from moe_safety.train import launch
from moe_safety.train.several import train_and_verify
from moe_safety.train.step_log import Watcher
from moe_safety.train.verified import verified, verify_arm
from moe_safety.train.worker import work
from tests.demo import REPLICAS
from tests.evaluate.schema import check_comparison
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
OF_EACH_KIND = ("selective-causal+router", "attention", "lora-experts")
NOT_OF_THE_DEMO = ("shared-experts",)
TRAINED = [arm.name for arm in ARMS if arm.phases and arm.name not in NOT_OF_THE_DEMO]


class Stopped(Exception):
    """The training was stopped, as by a kill."""


@contextmanager
def stopping(after):
    """Inside, a phase stops in its step `after`, before that is saved; not where there is none."""
    real = Watcher.__call__

    def call(self, row):
        if row["step"] == after:
            raise Stopped
        real(self, row)

    with patch.object(Watcher, "__call__", call):
        yield


def worker(rank, port, asked, done):
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "DS_ACCELERATOR": "cpu"}
    import moe_safety.everything  # noqa: F401 - a worker looks arms up

    dist.init_process_group("gloo", rank=rank, world_size=2)
    for task, after in iter(asked[rank].get, None):
        try:
            with stopping(after):
                work(task, Account())
            done.put("")
        except Exception as error:
            traceback.print_exc()
            done.put(type(error).__name__)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers():
    """Trains a task on two processes, which stand for Ray Train's: they start once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    asked, done = [context.Queue(), context.Queue()], context.Queue()
    processes = [context.Process(target=worker, args=(rank, port, asked, done), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()

    def train(task, after):
        for queue in asked:
            queue.put((task, after))
        told = {done.get(timeout=900) for _ in asked}
        if told != {""}:
            raise Stopped if told == {"Stopped"} else AssertionError(told)

    yield train
    for queue in asked:
        queue.put(None)
    for process in processes:
        process.join(60)


PLAIN = ["train.launch=process"]
ZERO_2 = ["train.launch=ray", "train.deepspeed=2", "train.num_workers=2"]


def prepared(folder, name, flags):
    """The arm with its selection, made by hand: each batch has a mask of its own."""
    more = ["identify.method=causal", f"train.arm={name}", "train.num_epochs=3", "train.checkpoint_every=1", *flags]
    config = configured(folder, EXPERTS, *more, "train.router.num_epochs=3")
    run, arm = RunDir(config.run_dir), own_arm(config)
    if choice := arm.arm.choice:
        made = {of: run.digest(of) for of in (PROMPTS, BATCHES)}
        rule, masks = choice.rule(arm.config.identify), {0: [EXPERTS[0], EXPERTS[2]], 1: EXPERTS[1:]}
        model = model_fingerprint(config.model)
        selection = Selection(**rule, model=model, experts=EXPERTS, per_batch=masks, inputs=made)
        run.write_json(arm.selection, selection.to_json())
    return run, arm


def weights_of(manifest):
    """The digests of all weights that it left."""
    folder = f"train/{manifest['summary']['arm']}/"
    found = {
        of.removeprefix(folder): digest for of, digest in manifest["outputs"].items() if of.endswith("safetensors")
    }
    assert found
    return found


def check(tmp_path, name, flags, stopped):
    """`stopped` trains until it is stopped in the second of at least three steps."""
    (run, arm), (other, again) = (prepared(tmp_path / of, name, flags) for of in ("whole", "resumed"))
    whole = train_and_verify(arm, force=False)
    with pytest.raises(Stopped):
        stopped(again)
    resumed = train_and_verify(again, force=False)
    assert weights_of(resumed) == weights_of(whole)
    logs = [where.read_json(f"train/{name}/training_metadata.json")["training_logs"] for where in (run, other)]
    orders = [[(row["phase"], row["step"], row["batch_idx"], row["loss"]) for row in log] for log in logs]
    assert orders[0] == orders[1]
    free = arm.arm.trains_all
    found = verified(run, arm)
    assert (found["verify"], found["violations"]) == ("n/a" if free else "pass", [])
    assert found["changed_ratio"] > 0
    file = f"{run.path(whole['summary']['final_model'])}/model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    os.remove(file)  # It may be another name of what a round left.
    save_file(tensors, file, {"format": "pt"})
    verify_arm(arm, whole["summary"], force=True)
    spoiled = verified(run, arm)
    assert spoiled["verify"] == ("n/a" if free else "fail")
    assert free or any("model.norm.weight" in told for told in spoiled["violations"])


@pytest.mark.parametrize(
    "name", [one if one in OF_EACH_KIND else pytest.param(one, marks=pytest.mark.soak) for one in TRAINED]
)
def test_on_plain_pytorch(tmp_path, name):
    def stopped(arm):
        with stopping(1):
            train_and_verify(arm, force=False)

    check(tmp_path, name, PLAIN, stopped)


@pytest.mark.soak
@pytest.mark.parametrize("name", TRAINED)
def test_under_zero_2_on_two_workers(tmp_path, name, two_workers, monkeypatch):
    after = []
    monkeypatch.setattr(launch, "_on_ray", lambda run, task: two_workers(task, after[0] if after else None))

    def stopped(arm):
        after.append(1)
        try:
            train_and_verify(arm, force=False)
        finally:
            after.clear()

    check(tmp_path, name, ZERO_2, stopped)


@pytest.mark.parametrize("name", NOT_OF_THE_DEMO)
def test_what_the_model_has_none_of_is_refused(tmp_path, name):
    run, arm = prepared(tmp_path / "run", name, PLAIN)
    with pytest.raises(InputError, match="olmoe has no"):
        train_and_verify(arm, force=False)
    assert not run.exists(f"train/{name}/training_metadata.json")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("ray_here")
def test_all_arms_stand_in_one_comparison(tmp_path):
    from moe_safety.config import load_config

    # Few steps and few answers; what stands beside every arm otherwise has tests of its own.
    few = ["data.max_samples=60", "effects.prompts=12", "train.num_epochs=1", "train.router.num_epochs=1"]
    less = ["data.validation_fraction=0", "evaluate.reattack=[]", "evaluate.routing_prompts=0", "compare.parallel=1"]
    less.append("arms.prefix.experts=selective-gradient")
    flags = [f"run_dir={tmp_path}/run", *few, *less, *(f"{key}={count}" for key, count in REPLICAS.items())]
    config = load_config("configs/arms.yaml", flags)
    run_all(config)
    run = RunDir(config.run_dir)
    found = {arm["arm"]: arm for arm in run.read_json("comparison.json")}
    check_comparison(list(found.values()))
    assert list(found) == config.compare.arms
    orders = {}
    for name, arm in found.items():
        declared = ARMS.get(name)
        assert arm["verify"] == ("pass" if declared.phases and not declared.trains_all else "n/a"), name
        if not declared.phases:
            assert (arm["steps"], arm["tokens_read"], arm["dose"], arm["trained_parameters"]) == (0, 0, 0, 0)
            continue
        assert arm["changed_ratio"] > 0
        assert 0 < arm["dose"] <= arm["tokens_read"]
        log = run.read_json(f"train/{name}/training_metadata.json")["training_logs"]
        for phase in declared.phases:
            orders[name, phase] = [row["batch_idx"] for row in log if row["phase"] == phase]
    assert len(set(map(str, orders.values()))) == 1, "the same batches in the same order, for as many steps"
    for name in ("prefix", "dpo", "representation"):
        if name in found:
            assert found[name]["tokens_read"] > 1.2 * found["selective-causal"]["tokens_read"]
    for method in ("routing", "gradient", "causal"):
        own, permuted = found[f"selective-{method}"], found[f"selective-{method}-permuted"]
        assert permuted["control_of"] == own["arm"]
        assert permuted["trained_parameters"] == own["trained_parameters"]
    prefix, gradient = found["prefix"], found["selective-gradient"]
    assert prefix["experts_of"] == gradient["arm"]
    assert prefix["trained_parameters"] == gradient["trained_parameters"]
    page = run.read_bytes("report.html").decode()
    assert all(name in page for name in found)
    assert "experts of selective-gradient" in page
