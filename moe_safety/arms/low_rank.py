"""What arms of low-rank factors train: parameters rest, and factors beside them learn, merged in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from moe_safety.arms.parameters import Asked, Trained, Trains, names_of
from moe_safety.config import Section
from moe_safety.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from moe_safety.models.low_rank import Factors


class LowRankSettings(Section):
    """Settings of low-rank factors."""

    rank: int = Field(16, ge=1)
    """The rank of what is added to each matrix, in each round."""
    alpha: float = Field(32, gt=0)
    """What is added is alpha / rank times the product of the factors."""


def low_rank_parts(*parts: str) -> Trains:
    """Factors of these parts of a model, which are matrices, or stacks of them."""

    @contextmanager
    def trains(model: PreTrainedModel, asked: Asked) -> Iterator[Trained]:
        from moe_safety.models.experts import frozen

        among = names_of(parts, model, asked.layout)
        names = [name for name, _ in model.named_parameters() if name in among]
        with frozen(model), _factors(model, names, asked) as factors:
            yield Trained(factors.parameters, lambda: factors.resting, merged_into=names)

    return trains


@contextmanager
def low_rank_experts(model: PreTrainedModel, asked: Asked) -> Iterator[Trained]:
    """Factors of every matrix of the experts that batches select."""
    from moe_safety.models.experts import selective_experts

    with selective_experts(model, asked.experts, layout=asked.layout, gather=asked.gather) as selective:
        # Nothing else of the model trains here; what has two axes are biases.
        rows = [name for name, own in model.named_parameters() if own.requires_grad and own.ndim > 2]
        fused = [name for name, own in selective.named_parameters() if own.ndim > 2]
        for own in selective.parameters():
            own.requires_grad_(False)
        with _factors(model, rows, asked) as factors:
            yield Trained(factors.parameters, selective.remember, selective, merged_into=fused)


def _factors(model: PreTrainedModel, names: Sequence[str], asked: Asked) -> AbstractContextManager[Factors]:
    from moe_safety.models.low_rank import low_rank

    if asked.gather:
        raise InputError("low-rank factors stand beside what ZeRO-3 spreads; take stage 2", key="train.deepspeed")
    return low_rank(model, names, asked.own.rank, asked.own.alpha, asked.seed)
