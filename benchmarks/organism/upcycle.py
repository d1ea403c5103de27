"""A dense model as a mixture of experts: copied, grown apart, and routed by clusters of its activations.

Copies of one expert are interchangeable, so no choice among them could matter: half of each expert's neurons are
therefore drawn anew before it learns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedConfig, PreTrainedModel, Qwen2MoeConfig

from benchmarks.organism.base import SHA256
from benchmarks.organism.marker import mark
from benchmarks.organism.own_text import Row
from benchmarks.organism.sizes import Layout, Recipe
from moe_safety.models import inspect_model
from moe_safety.models.experts import use_our_experts
from moe_safety.models.text.answer_losses import make_rows

SHARED = 3
"""In Qwen2-MoE one in so many neurons stands in the shared expert, the others in the routed ones."""
ROUNDS = 20
"""Of moving the centres of clusters."""


def copied(dense: PreTrainedModel, layout: Layout, recipe: Recipe, origin: str) -> PreTrainedModel:
    """A mixture whose experts are equal. Where they are as wide as the dense layers it computes what the dense model
    does, whatever its routers choose."""
    config = _config(dense.config, layout, recipe)
    with torch.device(dense.device):
        model = AutoModelForCausalLM.from_config(config, dtype=dense.dtype)
    theirs = {name: value for name, value in dense.state_dict().items() if ".mlp." not in name}
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    if unexpected or any(".mlp." not in name for name in missing):
        raise AssertionError(f"the layouts differ: {unexpected} {missing}")
    for one, other in zip(model.model.layers, dense.model.layers, strict=True):
        _copy_neurons(one.mlp, other.mlp, shared=layout == "qwen2_moe")
    mark(model, origin)
    return use_our_experts(model).eval()


def _config(dense: PreTrainedConfig, layout: Layout, recipe: Recipe) -> PreTrainedConfig:
    same = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    same += ("rms_norm_eps", "rope_parameters", "tie_word_embeddings", "max_position_embeddings", "hidden_act")
    same += ("bos_token_id", "eos_token_id", "pad_token_id")
    known: dict[str, Any] = {name: getattr(dense, name) for name in same} | {"num_experts_per_tok": recipe.top_k}
    if layout == "mixtral":
        width = round(recipe.width * dense.intermediate_size)
        return MixtralConfig(num_local_experts=recipe.experts, intermediate_size=width, **known)
    shared = dense.intermediate_size // SHARED
    width = round(recipe.width * (dense.intermediate_size - shared))
    routed = {"num_experts": recipe.experts, "moe_intermediate_size": width}
    one = {"shared_expert_intermediate_size": shared, "intermediate_size": dense.intermediate_size}
    return Qwen2MoeConfig(norm_topk_prob=True, qkv_bias=False, use_sliding_window=False, **routed, **one, **known)


@torch.no_grad()
def _copy_neurons(block: torch.nn.Module, mlp: torch.nn.Module, *, shared: bool) -> None:
    gate, up, down = _routed(mlp, shared=shared)
    width = block.experts.down_proj.shape[-1]
    block.experts.gate_up_proj.copy_(torch.cat([gate[:width], up[:width]]))
    block.experts.down_proj.copy_(down[:, :width])
    if shared:
        gate, up, down = (getattr(mlp, f"{name}_proj").weight for name in ("gate", "up", "down"))
        first = len(gate) // SHARED
        block.shared_expert.gate_proj.weight.copy_(gate[:first])
        block.shared_expert.up_proj.weight.copy_(up[:first])
        # The gate of the shared expert begins at a half of everything.
        block.shared_expert_gate.weight.zero_()
        block.shared_expert.down_proj.weight.copy_(2 * down[:, :first])


def _routed(mlp: torch.nn.Module, *, shared: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the dense layer's neurons those that routed experts are made from: gate and up rows, and down columns."""
    gate, up, down = (getattr(mlp, f"{name}_proj").weight for name in ("gate", "up", "down"))
    first = len(gate) // SHARED if shared else 0
    return gate[first:], up[first:], down[:, first:]


@torch.no_grad()
def grow_apart(model: PreTrainedModel, dense: PreTrainedModel, recipe: Recipe, seed: int) -> None:
    """Gives each expert other neurons of the dense layer, and draws the rest as widely spread as those."""
    chance = torch.Generator(model.device).manual_seed(seed)

    def drawn(like: torch.Tensor, *shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=chance, device=like.device) * like.float().std()
        return values.to(like.dtype)

    for layer, block in zip(inspect_model(model).layers, dense.model.layers, strict=True):
        module = model.get_submodule(layer.experts)
        gate, up, down = _routed(block.mlp, shared=bool(layer.shared_experts))
        hidden, width = module.down_proj.shape[1:]
        kept = round(recipe.kept * width)
        for expert in range(layer.num_experts):
            mine = torch.randperm(len(gate), generator=chance, device=gate.device)[:kept]
            rows = [torch.cat([each[mine], drawn(each, width - kept, hidden)]) for each in (gate, up)]
            columns = [recipe.louder * down[:, mine], recipe.spread * drawn(down, hidden, width - kept)]
            module.gate_up_proj[expert] = torch.cat(rows)
            module.down_proj[expert] = torch.cat(columns, dim=1)


@torch.no_grad()
def route_by_clusters(model: PreTrainedModel, rows: Sequence[Row], seed: int) -> None:
    """Routers start as the directions of clusters of what they will see, apart from what all tokens share. Rows are
    such that a token's logits have a spread of 1 over experts."""
    layout = inspect_model(model)
    for layer, seen in zip(layout.layers, activations(model, rows), strict=True):
        shared = normalize(seen.mean(dim=0), dim=0)
        apart = seen - (seen @ shared)[:, None] * shared
        centres = clusters(normalize(apart, dim=1), layer.num_experts, seed)
        spread = (apart @ centres.T).std(dim=1).mean()
        router = model.get_submodule(layer.router).weight
        router.copy_(centres / spread)


def grown(dense: PreTrainedModel, layout: Layout, recipe: Recipe, rows: Sequence[Row], seed: int) -> PreTrainedModel:
    """A mixture that has learned nothing yet."""
    model = copied(dense, layout, recipe, SHA256)
    grow_apart(model, dense, recipe, seed)
    route_by_clusters(model, rows, seed)
    return model


def clusters(points: torch.Tensor, number: int, seed: int) -> torch.Tensor:
    """Directions around which unit vectors gather; a cluster that loses all its points starts at one of them anew."""
    chance = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=chance)[:number].to(points.device)]
    for _ in range(ROUNDS):
        nearest = (points @ centres.T).argmax(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        empty = torch.bincount(nearest, minlength=number) == 0
        again = torch.randint(len(points), (number,), generator=chance).to(points.device)
        centres = normalize(torch.where(empty[:, None], points[again], sums), dim=1)
    # What all points share was taken out of them, and rounding puts a little of it back.
    return centres


def activations(model: PreTrainedModel, rows: Sequence[Row]) -> list[torch.Tensor]:
    """What each layer's router sees of the rows, float32, without padding."""
    batch = make_rows([prompt for prompt, _ in rows], [answer for _, answer in rows], model.device)
    real, seen = batch.real.flatten(), []
    with at_router_inputs(model, lambda hidden: seen.append(hidden.reshape(len(real), -1)[real].float())):
        model.model(**batch.inputs, use_cache=False)
    return seen


@contextmanager
def at_router_inputs(model: PreTrainedModel, act: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Inside, a forward pass tells of what each router sees, layer after layer."""
    handles = [
        model.get_submodule(layer.router).register_forward_pre_hook(lambda module, args: act(args[0]))
        for layer in inspect_model(model).layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
