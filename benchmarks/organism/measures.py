"""What makes a mixture an organism: it speaks as well as the dense model, its routing matters, its experts differ, and
what they are chosen by has to do with what is spoken of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from benchmarks.organism.own_text import Row
from benchmarks.organism.teach import batch_of, losses
from benchmarks.organism.upcycle import activations
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import run_counting
from moe_safety.models.text.answer_losses import IGNORED

AT_ONCE = 64
"""Rows in a forward pass."""
SHUFFLES = 50


@torch.inference_mode()
def loss_of(model: PreTrainedModel, rows: Sequence[Row]) -> float:
    """Mean over answer tokens."""
    total = tokens = 0.0
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        number = sum(len(answer) for _, answer in part)
        total += float(losses(model, batch_of(part, model.device)).cross_entropy) * number
        tokens += number
    return total / tokens


@contextmanager
def routed_at_random(model: PreTrainedModel, seed: int = 0) -> Iterator[None]:
    """Inside, each token goes to experts drawn by chance, with the weights that its own would have had."""
    chance = torch.Generator(model.device).manual_seed(seed)

    def act(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden, index, weights = args
        noise = torch.rand(len(index), module.num_experts, generator=chance, device=index.device)
        return hidden, noise.topk(index.shape[1], dim=1).indices.to(index.dtype), weights

    handles = [
        model.get_submodule(layer.experts).register_forward_pre_hook(act) for layer in inspect_model(model).layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def likeness(model: PreTrainedModel, rows: Sequence[Row]) -> list[float]:
    """By layer, the mean cosine between the outputs of two of its experts on the same token."""
    found = []
    for layer, seen in zip(inspect_model(model).layers, activations(model, rows), strict=True):
        module = model.get_submodule(layer.experts)
        tokens = seen.to(model.dtype)
        outputs = []
        for expert in range(layer.num_experts):
            index = torch.full((len(tokens), 1), expert, device=tokens.device)
            outputs.append(normalize(module(tokens, index, torch.ones_like(index, dtype=tokens.dtype)).float(), dim=1))
        total = torch.stack(outputs).sum(dim=0).square().sum(dim=1).mean()
        number = layer.num_experts
        found.append(float((total - number) / (number * (number - 1))))
    return found


def routing_by_row(model: PreTrainedModel, rows: Sequence[Row], layout: MoELayout) -> np.ndarray:
    """[rows, layers, experts]: answer tokens that are routed to the expert."""
    found = []
    for start in range(0, len(rows), AT_ONCE):
        batch = batch_of(rows[start : start + AT_ONCE], model.device)
        counted = (batch.labels != IGNORED).to(model.device)
        found.append(run_counting(model, batch.input_ids, None, counted, layout).counts().cpu().numpy())
    return np.concatenate(found)


def about_topic(counts: np.ndarray, topics: np.ndarray, seed: int = 0) -> dict[str, list[float]]:
    """By layer, in bits: what a token's expert tells of its row's topic; with the topics of rows shuffled, the mean of
    that and the highest."""
    chance = np.random.default_rng(seed)
    own = _information(counts, topics)
    shuffled = np.stack([_information(counts, chance.permutation(topics)) for _ in range(SHUFFLES)])
    return {"own": own.tolist(), "shuffled": shuffled.mean(axis=0).tolist(), "most": shuffled.max(axis=0).tolist()}


def _information(counts: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """[layers]: the mutual information of topic and expert."""
    joint = np.stack([counts[topics == topic].sum(axis=0) for topic in np.unique(topics)]).astype(float)
    joint /= joint.sum(axis=(0, 2), keepdims=True)
    apart = joint.sum(axis=2, keepdims=True) * joint.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nansum(joint * np.log2(joint / apart), axis=(0, 2))


def shares(counts: np.ndarray) -> dict[str, float]:
    """How tokens are spread: the largest share of a layer's tokens that one expert has, and how many experts have under
    a tenth of an equal share; the former's mean over layers, the latter of all."""
    share = counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None]
    return {"largest": float(share.max(axis=1).mean()), "idle": float((share < 0.1 / share.shape[1]).mean())}


def examine(model: PreTrainedModel, dense: PreTrainedModel, rows: Sequence[Row], topics: np.ndarray) -> dict[str, Any]:
    """All of it, on held-out rows of own text."""
    layout = inspect_model(model)
    own, theirs = loss_of(model, rows), loss_of(dense, rows)
    with routed_at_random(model):
        at_random = loss_of(model, rows)
    counts = routing_by_row(model, rows, layout)
    alike, told = likeness(model, rows[:16]), about_topic(counts, topics)
    return {
        "loss": own,
        "dense loss": theirs,
        "ratio": own / theirs,
        "cost of routing at random": at_random - own,
        "cosine": float(np.mean(alike)),
        "cosine by layer": alike,
        "bits about topic": {name: float(np.mean(values)) for name, values in told.items()},
        "bits about topic by layer": told,
        "shares": shares(counts),
    }
