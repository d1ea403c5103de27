"""Ways to hold many experts back at once, from the cheapest to the one that serves every family.

Not every family allows the cheaper ones: some carry state from layer to layer or scale what the experts add, and not
all attention takes a mask. `choose_way` tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from moe_safety.models.experts.counting import run_counting
from moe_safety.models.experts.evaluating import evaluating
from moe_safety.models.experts.growing_batch import Held, joining
from moe_safety.models.experts.margin_rows import Line
from moe_safety.models.experts.refusal_margin import Trial, margins
from moe_safety.models.experts.reweigh import holding_back
from moe_safety.models.experts.selective import sent
from moe_safety.models.experts.truncated_copy import sketch
from moe_safety.models.layout import MoELayout, inspect_model
from moe_safety.models.text.answer_losses import logits_only_at, make_rows

ROUNDING = 1e-6
"""How far apart two ways may be in float64, for each unit of what they measure: some families compute parts in
float32."""
_MULTIPLE = {"cuda": 16}
"""Of what a line's length is made a multiple: a GPU takes its time whenever a length is new."""


class Way(Protocol):
    """How the margins of a trial are found with each of some experts held back."""

    def row_tokens(self, trial: Trial) -> int:
        """Tokens that an entry takes in a forward pass."""

    def margins(self, model: PreTrainedModel, layout: MoELayout, trial: Trial, held: Held) -> torch.Tensor:
        """The margin of the untouched model, then that without each entry: the very same where no token goes there."""


@dataclass(frozen=True)
class Whole:
    """Every expert takes a forward pass of its own, all of them side by side."""

    def row_tokens(self, trial: Trial) -> int:
        """The tokens of one row of a forward pass."""
        return 2 * trial.length

    def margins(self, model: PreTrainedModel, layout: MoELayout, trial: Trial, held: Held) -> torch.Tensor:
        received = _received(model, layout, trial)
        used = [row for row, (position, experts) in enumerate(held) if received[position, list(experts)].any()]
        without = torch.zeros(1 + len(used), *layout.shape, dtype=torch.bool)
        for row, entry in enumerate(used, start=1):
            position, experts = held[entry]
            without[row, position, list(experts)] = True
        # Rows are all the safe answers, then all the unsafe ones.
        with holding_back(model, layout, without.repeat(2, 1, 1)):
            found = margins(model, [trial] * len(without))
        return _by_entry(found, used, len(held))


@dataclass(frozen=True)
class Shared:
    """The layers below an expert are run once for all experts; with `joined`, the prompt once for both answers."""

    joined: bool

    def row_tokens(self, trial: Trial) -> int:
        """The tokens of one row of a forward pass."""
        return max(len(line.tokens) for line in self._lines(trial))

    def margins(self, model: PreTrainedModel, layout: MoELayout, trial: Trial, held: Held) -> torch.Tensor:
        found = [_line_margins(model, layout, line, held) for line in self._lines(trial)]
        return torch.stack(found).sum(dim=0)

    def _lines(self, trial: Trial) -> list[Line]:
        signed = [(1, trial.safe), (-1, trial.unsafe)]
        return [Line(trial.prompt, some) for some in ([signed] if self.joined else [[one] for one in signed])]


def _line_margins(model: PreTrainedModel, layout: MoELayout, line: Line, held: Held) -> torch.Tensor:
    """What the answers of a line add to the margin: of the untouched model, then without each entry."""
    embeddings = model.get_input_embeddings().weight
    inputs = line.inputs(embeddings.device, embeddings.dtype, _MULTIPLE.get(embeddings.device.type, 1))
    places, targets = (sent(values, torch.long, embeddings.device) for values in (line.predicting(), line.targets))
    shares = sent(line.shares(), torch.promote_types(embeddings.dtype, torch.float32), embeddings.device)
    with (
        evaluating(model),
        joining(model, layout, held, inputs["input_ids"].shape[1]) as joined,
        logits_only_at(model, lambda hidden: hidden[:, places.to(hidden.device)]),
    ):
        logits = model(**inputs, use_cache=False).logits
    precise = logits if logits.dtype == torch.float64 else logits.float()
    targets = targets.to(logits.device).repeat(len(logits))
    losses = cross_entropy(precise.flatten(0, 1), targets, reduction="none").view(len(logits), -1)
    return _by_entry(-(losses * shares.to(losses)).sum(dim=1), joined, len(held))


def _by_entry(found: torch.Tensor, entries: Sequence[int], count: int) -> torch.Tensor:
    """The margin of the untouched model, then those of `count` entries: its own where no row was run for an entry."""
    rows = [0] * (1 + count)
    for row, entry in enumerate(entries, start=1):
        rows[1 + entry] = row
    return found[rows]


def _received(model: PreTrainedModel, layout: MoELayout, trial: Trial) -> torch.Tensor:
    """How many tokens of the trial each expert gets."""
    device = model.get_input_embeddings().weight.device
    rows = make_rows([trial.prompt] * 2, [trial.safe, trial.unsafe], device)
    ends = torch.tensor([len(trial.prompt) + len(answer) for answer in (trial.safe, trial.unsafe)], device=device)
    counted = torch.arange(trial.length, device=device) < ends[:, None]
    return run_counting(model, rows.input_ids, None, counted, layout).counts().sum(dim=0).cpu()


def choose_way(model: PreTrainedModel, layout: MoELayout, trial: Trial, max_tokens: int) -> Way:
    """The cheapest way that agrees with whole forward passes.

    Tried on a sketch of the model, with all experts of a layer held back at once, layer by layer; and on one trial,
    which should be as long as any, since attention may look back only so far.
    """
    try:
        small = sketch(model, layout)
        found = _try(Whole(), small, trial, max_tokens)
    except Exception:  # What cannot be tried cannot be trusted.
        return Whole()
    allowed = ROUNDING * (1 + float((found[:, 1] - found[:, 0]).abs().max()))
    for way in (Shared(joined=True), Shared(joined=False)):
        try:
            if torch.allclose(_try(way, small, trial, max_tokens), found, rtol=0, atol=allowed):
                return way
        except Exception:  # Whatever it was, such a model cannot be run in this way.
            continue
    return Whole()


def _try(way: Way, model: PreTrainedModel, trial: Trial, max_tokens: int) -> torch.Tensor:
    layout = inspect_model(model)
    held = [(position, range(layer.num_experts)) for position, layer in enumerate(layout.layers)]
    return grouped_margins(model, layout, trial, held, way, max_tokens)


def grouped_margins(
    model: PreTrainedModel, layout: MoELayout, trial: Trial, held: Held, way: Way, max_tokens: int
) -> torch.Tensor:
    """[entries, 2]: the margin of the untouched model and that without the entry, from the same forward pass."""
    together = max(1, max_tokens // way.row_tokens(trial) - 1)
    passes = math.ceil(len(held) / together)
    pieces = [torch.zeros(0, 2)]
    for number in range(passes):
        start, end = (len(held) * part // passes for part in (number, number + 1))
        found = way.margins(model, layout, trial, held[start:end])
        pieces.append(torch.stack([found[:1].expand(len(found) - 1), found[1:]], dim=1).cpu())
    return torch.cat(pieces)
