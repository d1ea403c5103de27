"""Representation rerouting: the hidden states from which an attack's answer came are turned away from what they were,
those of harmless rows and of refusals stay where they were (Zou et al. 2024, arXiv 2406.04313)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from moe_safety.arms.arm import OfArm
from moe_safety.arms.loss import ForwardPass, Loss
from moe_safety.batches import Example
from moe_safety.config import LOSSES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models.text.answer_losses import Rows

TURN = 0.01
"""By how much of their length states before training are turned before they are compared: where both are equal, the
cosine is at its maximum and has no gradient."""


class Rerouting(OfArm):
    """Settings of the loss `rerouting`."""

    reroute: float = Field(1.0, ge=0)
    """How much the cosine on attacks' answers counts; it falls to half of that over the phase."""
    retain: float = Field(1.0, ge=0)
    """How much the distance on all other rows counts; it rises from nothing to half of that over the phase."""


def answered(row: Example) -> Sequence[Example]:
    """An attack with the answer that it got, in place of the refusal; other rows as they are."""
    if row.label != "unsafe" or not row.answer:
        return (row,)
    return (replace(row, prompt=row.before_answer, target=row.answer),)


def states(model: PreTrainedModel, rows: Rows) -> Any:
    """The hidden states of every layer where answer tokens are predicted."""
    from moe_safety.models.text.hidden_states import answer_states

    return answer_states(model, rows)


def rerouted(passed: ForwardPass) -> torch.Tensor:
    """With c = 1 - t/2T of attacks' rows c reroute relu(cos(now, before)), of others (1 - c) retain |now - before|:
    means over layers, and over a row's tokens."""
    import torch

    from moe_safety.models.text.answer_losses import mean_by_row

    now, before = (torch.stack([*each.layers]).float() for each in (passed.now, passed.before))
    turn = torch.randn(now.shape[-1], generator=torch.Generator().manual_seed(0)).to(now.device)
    turned = before + TURN * before.norm(dim=-1, keepdim=True) * turn / turn.norm()
    close = torch.cosine_similarity(now, turned, dim=-1).relu().mean(dim=0)
    apart = (now - before).norm(dim=-1).mean(dim=0)
    weights = torch.tensor([_weights(row, passed) for (row,) in passed.read]).to(now.device)
    by_row = torch.stack([mean_by_row(each, passed.now.row, len(weights)) for each in (close, apart)], dim=1)
    return (weights * by_row).sum()


def _weights(row: Example, passed: ForwardPass) -> tuple[float, float]:
    """How much the cosine and the distance count in a row."""
    if row.label != "unsafe":
        return 0.0, passed.done / 2 * passed.own.retain
    return (1 - passed.done / 2) * passed.own.reroute if row.answer else 0.0, 0.0


LOSSES.add(
    Loss(
        "rerouting",
        "the mean over rows: with c = 1 - t/2T, for an attack that was answered c x reroute x relu of the cosine of its"
        " answer's hidden states now and before training, for other rows (1 - c) x retain x how far they moved",
        rerouted,
        reads=answered,
        counts=lambda row: int(bool(row.answer if row.label == "unsafe" else row.target)),
        measures=states,
        needs_reference=True,
        disfavours_answers=True,
    )
)
