"""Undoing a part of what changed routers do: the choices that some experts lost, or all the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from moe_safety.models import MoELayout
from moe_safety.models.experts import Pair
from moe_safety.models.families import RouterCall, Rule
from moe_safety.models.routers.hooks import rule_of

What = Literal["lost", "others", "weights", "theirs", "all"]
"""The choices that the named experts lost; every other choice that changed; no choice, but the weights with which the
named ones are still chosen; all that is the named ones', lost choices and weights; everything, which is the model
before its routers changed."""


@contextmanager
def giving_back(
    model: PreTrainedModel, layout: MoELayout, before: Mapping[str, torch.Tensor], experts: Collection[Pair], what: What
) -> Iterator[None]:
    """Inside, each token's choice is compared with what the old router would choose for the very same hidden state.

    Choices that are given back take the places of those that were gained, the least likely first; they have the scores
    of the old router, all others those of the new one.
    """
    rule, handles = rule_of(model), []
    for layer in layout.layers:
        mine = torch.zeros(layer.num_experts, dtype=torch.bool)
        mine[[expert for index, expert in experts if index == layer.index]] = True
        old = before[f"{layer.router}.weight"]
        hook = partial(_hook, rule, old, mine.to(old.device), what)
        handles.append(model.get_submodule(layer.router).register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(
    rule: Rule, old: torch.Tensor, mine: torch.Tensor, what: What, router: Any, args: tuple[Any, ...], answer: Any
) -> Any:
    logits, weights, index = answer
    hidden = args[0].reshape(-1, old.shape[1])
    now = RouterCall(router, None, logits, weights, index)
    then = replace(now, logits=linear(hidden, old))
    is_chosen, was_chosen = (_mask(call, chosen) for call, chosen in ((now, index), (then, _best(rule, then))))
    given, of_old = chosen_again(is_chosen, was_chosen, rule.scores(now), mine, what)
    scores = torch.where(of_old, rule.scores(then), rule.scores(now))
    ours = scores.masked_fill(~given, -torch.inf).topk(index.shape[1], dim=1).indices
    return logits, rule.weigh(now, scores.gather(1, ours), ours).to(weights.dtype), ours.to(index.dtype)


def chosen_again(
    is_chosen: torch.Tensor, was_chosen: torch.Tensor, scores: torch.Tensor, mine: torch.Tensor, what: What
) -> tuple[torch.Tensor, torch.Tensor]:
    """[tokens, experts]: what is chosen where `what` is given back, and whose score is that of the old router."""
    if what == "all":
        return was_chosen, torch.ones_like(was_chosen)
    if what == "weights":
        return is_chosen, is_chosen & mine
    back = was_chosen & ~is_chosen & (~mine if what == "others" else mine)
    gained = is_chosen & ~was_chosen
    order = scores.masked_fill(~gained, torch.inf).argsort(dim=1).argsort(dim=1)
    chosen = is_chosen & ~(gained & (order < back.sum(dim=1, keepdim=True))) | back
    return chosen, back | (chosen & was_chosen & mine if what == "theirs" else back)


def _best(rule: Rule, call: RouterCall) -> torch.Tensor:
    return rule.order(call)[:, : call.index.shape[1]]


def _mask(call: RouterCall, chosen: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(call.logits, dtype=torch.bool).scatter(1, chosen, True)
