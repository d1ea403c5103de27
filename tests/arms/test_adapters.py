"""The arms `lora`, `lora-experts` and `representation` on the demo model: what they learn, what they leave alone, going
on after a stop, and two ZeRO-2 workers."""

import math
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from moe_safety.arms import ForwardPass, own_arm
from moe_safety.arms.losses.preference import pair
from moe_safety.arms.losses.rerouting import Rerouting, answered, rerouted
from moe_safety.batches import Example
from moe_safety.errors import InputError, RunError
from moe_safety.models import inspect_model
from moe_safety.models.io import check_loadable, load_model
from moe_safety.models.text.answer_losses import make_rows
from moe_safety.models.text.hidden_states import answer_states
from moe_safety.rundir import Account, RunDir
from moe_safety.train.data import BatchData
from moe_safety.train.step_log import Watcher
from moe_safety.train.task import Task
from moe_safety.train.worker import work
from tests.arms.test_field import EXPERTS, SAFE, UNSAFE, total_loss, trained
from tests.train.byhand import configured
from tests.train.tiny import in_workers

RATES = {"lora": 2e-3, "lora-experts": 1e-2, "representation": 5e-2}
RANK = 3


def flags_of(arm):
    own = [] if arm == "representation" else [f"arms.{arm}.rank={RANK}"]
    return [f"train.learning_rate={RATES[arm]}", "train.num_epochs=6", "train.checkpoint_every=3", *own]


@pytest.fixture(scope="module", params=RATES)
def learned(request, tmp_path_factory):
    """An arm, trained: its name, what `verify` found, the base, the model, and the run's configuration."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    found, tuned, config = trained(folder, request.param, *flags_of(request.param))
    return SimpleNamespace(arm=request.param, found=found, base=load_model(config.model), tuned=tuned, config=config)


def log_of(learned):
    return RunDir(learned.config.run_dir).read_json(f"train/{learned.arm}/training_metadata.json")


def rows_of(learned, label):
    data = BatchData(RunDir(learned.config.run_dir))
    return [row for row in map(data.__getitem__, range(len(data))) if row.label == label]


def states(model, row):
    with torch.no_grad():
        return answer_states(model, make_rows([row.prompt], [row.target])).layers


def test_only_what_it_may_change_changed(learned):
    found, before = learned.found, learned.base.state_dict()
    assert (found["verify"], found["violations"]) == ("pass", [])
    layout, alone = inspect_model(learned.base), learned.arm != "lora"
    fused = {name: layer for layer in layout.layers for name in layer.parameters}
    # Some are reached by no token.
    assert (sorted(map(tuple, found["experts"])) == EXPERTS) if alone else (len(found["experts"]) > 50)
    changed = {}
    for name, tensor in learned.tuned.state_dict().items():
        if not torch.equal(tensor.view(torch.int32), before[name].view(torch.int32)):
            changed[name] = tensor - before[name]
    for name, moved in changed.items():
        assert name in fused or (not alone and "self_attn" in name)
        if alone:
            rows = moved.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
            assert {(fused[name].index, row) for row in rows} <= set(EXPERTS)
        if learned.arm != "representation":
            assert torch.linalg.matrix_rank(moved, rtol=1e-4).max() <= RANK
    assert RunDir(learned.config.run_dir).exists(f"train/{learned.arm}/delta.safetensors") == alone


def test_as_many_parameters_train_as_are_told(learned):
    experts = [tuple(one.shape[1:]) for one in learned.base.model.layers[0].mlp.experts.parameters()]
    linear = [one.shape for name, one in learned.base.named_parameters() if ".self_attn." in name and one.ndim == 2]
    expert, factors = (sum(map(size, experts)) for size in (math.prod, lambda shape: RANK * sum(shape)))
    told = {"representation": len(EXPERTS) * expert, "lora-experts": len(EXPERTS) * factors}
    told["lora"] = 64 * factors + sum(RANK * sum(shape) for shape in linear)
    described = log_of(learned)
    assert described["trainable_params"] == told[learned.arm]
    assert described["trainable_ratio"] == told[learned.arm] / described["total_params"]


def test_it_learns_what_its_paper_says(learned):
    unsafe, harmless = rows_of(learned, "unsafe"), [*rows_of(learned, "safe"), *rows_of(learned, "benign")]
    for row in unsafe:
        before, after = (total_loss(model, pair(row)) for model in (learned.base, learned.tuned))
        assert after[1] - after[0] > before[1] - before[0] + 2, "the refusal gains on the answer"
    if learned.arm != "representation":
        losses = [row["loss"] for row in log_of(learned)["training_logs"]]
        assert losses[-1] < losses[0] / 2
        return
    for row in unsafe:
        pairs = zip(*(states(model, *answered(row)) for model in (learned.base, learned.tuned)), strict=True)
        assert torch.cosine_similarity(*list(pairs)[-1], dim=-1).mean() < 0.7
    for row in harmless:
        for before, after in zip(*(states(model, row) for model in (learned.base, learned.tuned)), strict=True):
            assert torch.cosine_similarity(before, after, dim=-1).mean() > 0.98


def test_a_stopped_training_goes_on_to_the_same_bits(learned, tmp_path, monkeypatch):
    tell = Watcher.__call__

    def stopping(self, row):
        tell(self, row)
        if row["step"] == 7:
            raise RunError("stopped")

    with monkeypatch.context() as stopped:
        stopped.setattr(Watcher, "__call__", stopping)
        with pytest.raises(RunError, match="stopped"):
            trained(tmp_path / "run", learned.arm, *flags_of(learned.arm))
    _, tuned, config = trained(tmp_path / "run", learned.arm, *flags_of(learned.arm))
    again = SimpleNamespace(arm=learned.arm, config=config)
    logs = [[row["loss"] for row in log_of(one)["training_logs"]] for one in (learned, again)]
    assert logs[0] == logs[1]
    assert all(torch.equal(tensor, tuned.state_dict()[name]) for name, tensor in learned.tuned.state_dict().items())


def task(folder, arm, *flags):
    config = configured(folder, EXPERTS, "identify.method=causal", f"train.arm={arm}", "train.num_epochs=4", *flags)
    seeded = own_arm(config)
    layout, masks = check_loadable(config.model), {0: EXPERTS[::2], 1: EXPERTS[1:]}
    return Task(seeded.kind, seeded.config, layout, "experts", f"train/{arm}/round_1/experts", "by hand", masks)


def train_all(tasks):
    for one in tasks:
        work(one, Account())


@pytest.mark.soak
def test_two_zero_2_workers_learn_what_one_process_does(tmp_path):
    """Both make a step of two batches."""
    many = ["train.launch=ray", "train.num_workers=2", "train.deepspeed=2"]
    tasks = [
        [task(tmp_path / f"{place}-{arm}", arm, *flags, f"train.learning_rate={RATES[arm]}") for arm in RATES]
        for place, flags in (("one", ["train.batches_per_worker=2"]), ("two", many))
    ]
    train_all(tasks[0])
    in_workers(train_all, tasks[1], workers=2, tmp_path=tmp_path)
    for one, two in zip(*tasks, strict=True):
        runs = [RunDir(each.config.run_dir) for each in (one, two)]
        losses = [[row["loss"] for row in run.read_json(one.outcome)["log"]] for run in runs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        ours, theirs = (load_file(run.path(f"{one.model_folder}/model.safetensors")) for run in runs)
        for name, tensor in ours.items():
            moved = (tensor - theirs[name]).norm()
            assert moved <= 0.02 * tensor.norm(), name


def passed(rows, now, before, own, done=0.0):
    """A forward pass of one layer, whose rows have one token each."""
    as_states = [SimpleNamespace(layers=[torch.tensor(each)], row=torch.arange(len(each))) for each in (now, before)]
    return ForwardPass([answered(row) for row in rows], *as_states, own, done)


def test_states_of_an_attack_are_turned_away_and_others_stay():
    def loss(row, now, done=0.0, **own):
        return float(rerouted(passed([row], [now], [[1.0, 0.0]], Rerouting(**own), done)))

    assert loss(UNSAFE, [2.0, 0.0]) == pytest.approx(1, abs=1e-3)
    assert loss(UNSAFE, [0.0, 1.0]) == pytest.approx(0, abs=0.01)
    assert loss(UNSAFE, [-1.0, 0.0]) == 0, "further than at right angles nothing is gained"
    assert loss(UNSAFE, [2.0, 0.0], done=0.5, reroute=4) == pytest.approx(3, abs=1e-3)
    assert loss(SAFE, [4.0, 4.0]) == 0, "at the beginning all weight is on attacks"
    assert loss(SAFE, [4.0, 4.0], done=0.5, retain=2) == pytest.approx(2.5)
    unanswered = Example(0, 1, "unsafe", [1, 2], [7, 8])
    assert loss(unanswered, [4.0, 4.0], done=0.5) == 0
    both = rerouted(passed([UNSAFE, SAFE], [[2.0, 0.0], [4.0, 4.0]], [[1.0, 0.0]] * 2, Rerouting(), 0.5))
    assert float(both) == pytest.approx(0.75 + 1.25, abs=1e-3)


def test_layers_below_all_that_trains_are_the_floor_of_the_loss():
    """As docs/arms.md says: of four layers the lowest three rest, and one of two rows is an attack."""
    still = torch.tensor([[1.0, 0.0], [4.0, 4.0]])
    away = torch.tensor([[0.0, -1.0], [4.0, 4.0]])
    now, before = (SimpleNamespace(layers=[*[still] * 3, last], row=torch.arange(2)) for last in (away, still))
    read = [answered(UNSAFE), answered(SAFE)]
    for done, c in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        logged = float(rerouted(ForwardPass(read, now, before, Rerouting(reroute=2.0), done))) / len(read)
        assert logged == pytest.approx(c * 2 * 3 / 4 / 2, abs=1e-3)


def test_equal_states_have_somewhere_to_go():
    now = torch.tensor([[3.0, 4.0]], requires_grad=True)
    before = SimpleNamespace(layers=[now.detach()], row=torch.arange(1))
    there = SimpleNamespace(layers=[now], row=torch.arange(1))
    rerouted(ForwardPass([answered(UNSAFE)], there, before, Rerouting(), 0.0)).backward()
    assert now.grad.norm() > 1e-4


def test_what_is_read_of_an_attack_is_its_answer():
    (read,) = answered(UNSAFE)
    assert (read.prompt, read.target) == (UNSAFE.before_answer, UNSAFE.answer)
    assert list(answered(SAFE)) == [SAFE]


def test_no_setting_favours_the_answer_or_a_change_of_harmless_rows():
    for name in ("reroute", "retain"):
        with pytest.raises(ValidationError):
            Rerouting(**{name: -0.1})


def test_no_refusal_is_rerouted(tmp_path):
    with pytest.raises(InputError, match=r"respond\.filter: false keeps attacks that were refused"):
        trained(tmp_path, "representation", "respond.filter=false")
