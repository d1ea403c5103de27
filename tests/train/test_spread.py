"""A model that is read spread over ZeRO-3 workers is the model that one worker alone reads, in every type."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from moe_safety import inspect_model, selective_experts
from moe_safety.checkpoints import extract_delta, verify, write_trained
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError, RunError
from moe_safety.models.experts import frozen
from moe_safety.models.io import load_model
from moe_safety.models.io.save import save_rest, save_weights
from moe_safety.models.routers import routers
from moe_safety.train.engines.deepspeed import DeepSpeedEngine, deepspeed_config, type_of
from moe_safety.train.engines.spread import gathered, read_spread
from moe_safety.train.optimizer import LazyAdamW
from moe_safety.train.world import World
from tests.families import FAMILIES, build
from tests.train.tiny import compiled, in_workers

IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(4))
WIDE = {"ernie4_5_moe", "hunyuan_v1_moe", "lfm2_moe", "zaya", "deepseek_v4"}
"""Families that keep routers, or what is added to their scores, in float32."""
TRAINED = ["olmoe", *sorted(WIDE)]
ZERO = {"stage": 3, "stage3_param_persistence_threshold": 0}
CONFIG = deepspeed_config({"zero_optimization": ZERO}, None, torch.bfloat16)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def lose_some(kept: dict[str, torch.Tensor]) -> None:
    for name in [name for name in kept if ".1.self_attn." in name or name in (EMBEDDING, HEAD)]:
        del kept[name]


CHANGES: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "two": lambda kept: None,
    "alike": lambda kept: kept.update({HEAD: kept[EMBEDDING].clone()}),
    "one": lambda kept: kept.pop(HEAD),
    "lacking": lose_some,
}


def stored(name: str, folder: Path) -> ModelConfig:
    """A model of that family with numbers in every buffer that is stored, too."""
    model = build(name)
    chance, kept = torch.Generator().manual_seed(1), model.state_dict()
    for buffer, tensor in model.named_buffers():
        if buffer in kept and tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=chance))
    model.save_pretrained(folder)
    return ModelConfig(name=str(folder), dtype="bfloat16")


def stored_with(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> ModelConfig:
    """A model whose checkpoint was changed, its configuration saying that the head is the embedding."""
    given = stored("olmoe", folder)
    kept = load_file(folder / "model.safetensors")
    change(kept)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    told = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(told))
    return given


def read(given: ModelConfig):
    return read_spread(given, CONFIG, torch.device("cpu"))


def different(given: ModelConfig) -> list[str]:
    """What is not the same to the bit, of any worker."""
    alone, spread = load_model(given), read(given)
    others = dict(spread.named_parameters()) | dict(spread.named_buffers())
    with gathered(list(spread.parameters())):
        wrong = [
            f"{name}: {tensor.dtype}, spread {others[name].dtype}"
            for name, tensor in [*alone.named_parameters(), *alone.named_buffers()]
            if tensor.dtype != others[name].dtype or not torch.equal(tensor, others[name])
        ]
    every: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, wrong)
    return [one for worker in every for one in worker]


def refused(given: ModelConfig) -> list[str]:
    """What each worker says."""
    with pytest.raises(InputError) as error:
        read(given)
    said = [""] * dist.get_world_size()
    dist.all_gather_object(said, str(error.value))
    return said


def save_together(model, out: Path, world: World) -> None:
    """Each worker some of many files."""
    save_weights(model, out, gather=gathered, rank=world.rank, of=world.size, shard=30_000)
    world.wait()
    if world.rank == 0:
        save_rest(model, out, shard=30_000)


def train(given: ModelConfig, out: Path) -> tuple[bool, bool, list[tuple[int, int]]]:
    """Whether every parameter was spread, whether the first outputs are those of one worker, and who trained."""
    world, alone = World(), load_model(given)
    layout = inspect_model(alone)
    experts = [(layer.index, expert) for layer in layout.layers for expert in (0, 2)]
    model = read(given)
    spread = all(parameter.numel() == 0 for parameter in model.parameters())
    with selective_experts(model, experts, layout=layout, gather=gathered) as selective:
        optimizer = LazyAdamW(selective.parameters(), lr=1e-2, weight_decay=0.1)
        engine = DeepSpeedEngine(model, optimizer, CONFIG, world)
        logits = model(IDS).logits
        same = torch.equal(logits, alone(IDS).logits)
        engine.backward(logits.float().logsumexp(dim=-1).mean(), last=True)
        engine.step(1e-2)
    save_together(model, out, world)
    return spread, same, experts


def train_to_a_delta(given: ModelConfig, out: Path) -> list[str]:
    """Leaves the delta and the model that it is of; what differs where the base is then read with the delta."""
    world, layout = World(), inspect_model(load_model(given))
    experts = [(layer.index, expert) for layer in layout.layers for expert in (0, 2)]
    model = read(given)
    with selective_experts(model, experts, layout=layout, gather=gathered) as selective:
        names = [name for name, _ in selective.named_parameters()]
        engine = DeepSpeedEngine(model, LazyAdamW(selective.parameters(), lr=1e-2), CONFIG, world)
        engine.backward(model(IDS).logits.float().logsumexp(dim=-1).mean(), last=True)
        engine.step(1e-2)
    delta, writes = str(out / "delta.safetensors"), world.rank == 0
    assert write_trained(model, given, layout, names, experts, delta, gather=gathered, writes=writes)
    save_together(model, out, world)
    world.wait()
    return different(given.with_delta(delta))


def train_routers(given: ModelConfig, stage: int) -> set[tuple[bool, torch.dtype]]:
    """Whether the first outputs are those of one worker, and in which types routers then are."""
    alone = load_model(given)
    names = set(routers(alone, inspect_model(alone)))
    model = read(given) if stage == 3 else load_model(given)
    with frozen(model):
        trained = {name: one for name, one in model.named_parameters() if name in names}
        for parameter in trained.values():
            parameter.requires_grad_()
        config = deepspeed_config(stage, None, type_of(trained))
        engine = DeepSpeedEngine(model, torch.optim.AdamW(trained.values()), config, World())
        logits = model(IDS).logits
        engine.backward(logits.float().logsumexp(dim=-1).mean(), last=True)
        engine.step(1e-2)
    return {(torch.equal(logits, alone(IDS).logits), parameter.dtype) for parameter in trained.values()}


def train_everything(given: ModelConfig, stage: int) -> set[torch.dtype]:
    """The types after a step of the baseline."""
    cpu, dtype = torch.device("cpu"), torch.bfloat16
    model = read_spread(given, CONFIG, cpu, only=dtype) if stage == 3 else load_model(given)
    model.requires_grad_(True)
    config = CONFIG if stage == 3 else deepspeed_config(stage, None, dtype)
    engine = DeepSpeedEngine(model, torch.optim.AdamW(model.parameters()), config, World())
    engine.backward(model(IDS).logits.float().logsumexp(dim=-1).mean(), last=True)
    assert engine.step(1e-2) > 0
    with gathered(list(model.parameters())) if stage == 3 else nullcontext():
        return {parameter.dtype for parameter in model.parameters()}


def in_each_worker(
    bases: dict[str, ModelConfig], changed: dict[str, ModelConfig], tuned: Path, alike: ModelConfig
) -> dict[str, Any]:
    return {
        "delta": train_to_a_delta(alike, tuned / "delta"),
        "read": {name: different(given) for name, given in bases.items()},
        "tied": {name: different(changed[name]) for name in ("two", "alike", "one")},
        "refused": refused(changed["lacking"]),
        "routers": {stage: train_routers(bases["hunyuan_v1_moe"], stage) for stage in (1, 2, 3)},
        "baseline": {stage: train_everything(bases["ernie4_5_moe"], stage) for stage in (1, 2, 3)},
        "trained": {name: train(bases[name], tuned / name) for name in TRAINED},
        "compiled": compiled(),
    }


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {name: stored(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    return {name: stored_with(tmp_path_factory.mktemp(name), change) for name, change in CHANGES.items()}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    for name in [*TRAINED, "delta"]:
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def alike(bases, tmp_path_factory):
    """A base that is stored in the types that it is loaded in."""
    folder = tmp_path_factory.mktemp("alike")
    load_model(bases["olmoe"]).save_pretrained(folder)
    return ModelConfig(name=str(folder))


@pytest.fixture(scope="module")
def found(bases, changed, tuned, alike, tmp_path_factory):
    given = bases, changed, tuned, alike
    return in_workers(in_each_worker, *given, workers=2, tmp_path=tmp_path_factory.mktemp("found"))


def test_every_family_is_read_as_it_is(found):
    assert set(found["read"]) == set(FAMILIES)
    assert {name: wrong for name, wrong in found["read"].items() if wrong} == {}


def test_a_head_is_the_embedding_where_it_is_on_one_worker(found, changed):
    """transformers compares the two, if the checkpoint has both."""
    alone = {name: load_model(changed[name]) for name in found["tied"]}
    tied = {name: model.lm_head.weight is model.model.embed_tokens.weight for name, model in alone.items()}
    assert tied == {"two": False, "alike": True, "one": True}
    assert found["tied"] == {"two": [], "alike": [], "one": []}


def test_every_worker_refuses_a_checkpoint_that_lacks_weights(found):
    assert len(found["refused"]) == 2
    assert len(set(found["refused"])) == 1
    assert "has no weights for " in found["refused"][0]


def test_it_computes_trains_and_is_saved_in_its_own_types(found, bases, tuned, tmp_path):
    assert list(found["trained"]) == TRAINED
    for name, (spread, same, experts) in found["trained"].items():
        assert spread, name
        assert same, name
        # In the types that it is saved in after training.
        load_model(bases[name]).save_pretrained(tmp_path / name)
        report = verify(tmp_path / name, tuned / name, experts)
        assert report.violations == [], name
        assert report.experts, name


def test_a_delta_is_that_of_the_checkpoint_and_is_read_by_every_worker(found, alike, tuned, tmp_path):
    assert found["delta"] == []
    report = extract_delta(alike.name, tuned / "delta", tmp_path / "delta.safetensors")
    assert report.experts
    assert (tmp_path / "delta.safetensors").read_bytes() == (tuned / "delta" / "delta.safetensors").read_bytes()


def test_routers_that_are_kept_in_float32_train_in_float32(found):
    assert found["routers"] == {stage: {(True, torch.float32)} for stage in (1, 2, 3)}


def test_a_baseline_trains_in_one_type(found):
    assert found["baseline"] == {stage: {torch.bfloat16} for stage in (1, 2, 3)}


def test_nothing_is_compiled(found):
    assert found["compiled"] == []


def test_what_trains_in_two_types_is_refused():
    types = {"gate": torch.float32, "experts": torch.bfloat16}
    trained = {name: torch.nn.Parameter(torch.ones(2, dtype=kind)) for name, kind in types.items()}
    with pytest.raises(RunError, match=r"some of it in float32, the rest in bfloat16: set model\.dtype: float32"):
        type_of(trained)
