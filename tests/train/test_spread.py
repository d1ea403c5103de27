"""A model that is read spread over ZeRO-3 workers is the model that one worker alone reads, in every type."""

from pathlib import Path

import pytest
import torch

from moe_safety import inspect_model, selective_experts
from moe_safety.checkpoints import verify
from moe_safety.config import ModelConfig
from moe_safety.errors import RunError
from moe_safety.models.choosing import routers
from moe_safety.models.experts.selective import frozen
from moe_safety.models.load import load_model
from moe_safety.models.save import save_model
from moe_safety.train.engines.deepspeed import DeepSpeedEngine, deepspeed_config, gathered, read_spread, type_of
from moe_safety.train.optimizer import LazyAdamW
from moe_safety.train.world import World
from tests.families import FAMILIES, build
from tests.train.tiny import in_workers

IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(4))
TYPES = {"gate": torch.float32, "experts": torch.bfloat16}
WIDE = {"ernie4_5_moe", "hunyuan_v1_moe", "lfm2_moe", "zaya", "deepseek_v4"}
"""Families that keep routers, or what is added to their scores, in float32."""
CONFIG = deepspeed_config(
    {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}, None, torch.bfloat16
)


def stored(name: str, folder: Path) -> ModelConfig:
    """A model of that family with numbers in every buffer that is stored, too."""
    model = build(name)
    chance, kept = torch.Generator().manual_seed(1), model.state_dict()
    for buffer, tensor in model.named_buffers():
        if buffer in kept and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=chance))
    model.save_pretrained(folder)
    return ModelConfig(name=str(folder), dtype="bfloat16")


def different(alone, spread) -> list[str]:
    """What is not the same to the bit."""
    others = dict(spread.named_parameters()) | dict(spread.named_buffers())
    with gathered(list(spread.parameters())):
        return [
            f"{name}: {tensor.dtype}, spread {others[name].dtype}"
            for name, tensor in [*alone.named_parameters(), *alone.named_buffers()]
            if tensor.dtype != others[name].dtype or not torch.equal(tensor, others[name])
        ]


def compare(folders: dict[str, ModelConfig]) -> dict[str, list[str]]:
    return {
        name: different(load_model(given), read_spread(given, CONFIG, torch.device("cpu")))
        for name, given in folders.items()
    }


def test_every_family_is_read_as_it_is(tmp_path):
    folders = {name: stored(name, tmp_path / name) for name in FAMILIES}
    found = in_workers(compare, folders, workers=2, tmp_path=tmp_path)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def train(given: ModelConfig, out: Path) -> tuple[bool, bool, list[tuple[int, int]]]:
    """Whether every parameter was spread, whether the first outputs are those of one worker, and who trained."""
    world, alone = World(), load_model(given)
    layout = inspect_model(alone)
    experts = [(layer.index, expert) for layer in layout.layers for expert in (0, 2)]
    model = read_spread(given, CONFIG, torch.device("cpu"))
    spread = all(parameter.numel() == 0 for parameter in model.parameters())
    with selective_experts(model, experts, layout=layout, gather=gathered) as selective:
        optimizer = LazyAdamW(selective.parameters(), lr=1e-2, weight_decay=0.1)
        engine = DeepSpeedEngine(model, optimizer, CONFIG, world)
        logits = model(IDS).logits
        same = torch.equal(logits, alone(IDS).logits)
        engine.backward(logits.float().logsumexp(dim=-1).mean(), last=True)
        engine.step(1e-2)
    save_model(model, out, gather=gathered, writes=world.rank == 0)
    return spread, same, experts


def train_routers(given: ModelConfig, stage: int) -> list[tuple[bool, torch.dtype]]:
    """Whether the first outputs are those of one worker, and in which type routers then are."""
    alone = load_model(given)
    layout = inspect_model(alone)
    model = read_spread(given, CONFIG, torch.device("cpu")) if stage == 3 else load_model(given)
    names = set(routers(alone, layout))
    with frozen(model):
        trained = {name: one for name, one in model.named_parameters() if name in names}
        for parameter in trained.values():
            parameter.requires_grad_()
        config = deepspeed_config(stage, None, type_of(trained))
        engine = DeepSpeedEngine(model, torch.optim.AdamW(trained.values()), config, World())
        logits = model(IDS).logits
        engine.backward(logits.float().logsumexp(dim=-1).mean(), last=True)
        engine.step(1e-2)
    return [(torch.equal(logits, alone(IDS).logits), parameter.dtype) for parameter in trained.values()]


def train_routers_at(given: ModelConfig, stages: tuple[int, ...]) -> dict[int, list[tuple[bool, torch.dtype]]]:
    return {stage: train_routers(given, stage) for stage in stages}


def test_routers_that_are_kept_in_float32_train_in_float32(tmp_path):
    given = stored("hunyuan_v1_moe", tmp_path / "base")
    found = in_workers(train_routers_at, given, (1, 2, 3), workers=2, tmp_path=tmp_path)
    for stage, each in found.items():
        assert set(each) == {(True, torch.float32)}, stage


def test_what_trains_in_two_types_is_refused():
    two = {name: torch.nn.Parameter(torch.ones(2, dtype=kind)) for name, kind in TYPES.items()}
    with pytest.raises(
        RunError, match=r"keeps some of it in float32, the rest in bfloat16: leave train\.deepspeed out"
    ):
        type_of(two)


def train_all(folders: dict[str, ModelConfig], out: Path) -> dict[str, tuple[bool, bool, list[tuple[int, int]]]]:
    return {name: train(given, out / name) for name, given in folders.items()}


def test_it_computes_trains_and_is_saved_in_its_own_types(tmp_path):
    folders = {name: stored(name, tmp_path / "base" / name) for name in ["olmoe", *sorted(WIDE)]}
    for name, given in folders.items():
        # In the types that it is saved in after training.
        load_model(given).save_pretrained(tmp_path / "read" / name)
        (tmp_path / "tuned" / name).mkdir(parents=True)
    found = in_workers(train_all, folders, tmp_path / "tuned", workers=2, tmp_path=tmp_path)
    for name, (spread, same, experts) in found.items():
        assert spread, name
        assert same, name
        report = verify(tmp_path / "read" / name, tmp_path / "tuned" / name, experts)
        assert report.violations == [], name
        assert report.experts, name
