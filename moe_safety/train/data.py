"""The analysis batches as training sees them: whole, in order, with the tokens that `compose` gave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset

from moe_safety.batches import Example
from moe_safety.errors import InputError, RunError
from moe_safety.jobs import pack
from moe_safety.models.text.answer_losses import Rows, make_rows
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir

_TOKENS = ("prompt_tokens", "target_prefix", "target_tokens", "answer_prefix", "answer_tokens")


class BatchData(Dataset[Example]):
    """`batches.parquet`, row by row; `batch_idx` says which batch each row belongs to."""

    def __init__(self, run: RunDir) -> None:
        table: pa.Table = run.read_table(BATCHES, ["batch_idx", "in_batch_idx", "prompt_id", "label", *_TOKENS])
        self.batch_idx: list[int] = table["batch_idx"].to_pylist()
        self.prompt_ids: list[str] = table["prompt_id"].to_pylist()
        self._places: list[int] = table["in_batch_idx"].to_pylist()
        self._labels: list[str] = table["label"].to_pylist()
        self._tokens = [_Lists(table[name].combine_chunks()) for name in _TOKENS]
        if not self.batch_idx:
            raise InputError("holds no batch", file=run.path(BATCHES))

    def __len__(self) -> int:
        return len(self.batch_idx)

    def __getitem__(self, row: int) -> Example:
        prompt, prefix, target, before_answer, answer = (column[row] for column in self._tokens)
        place = (self.batch_idx[row], self._places[row], self._labels[row])
        return Example(*place, [*prompt, *prefix], target, [*prompt, *before_answer], answer)


class _Lists:
    """A column of lists of numbers: a row is sliced from memory, which a step does a hundred times."""

    def __init__(self, column: pa.Array) -> None:
        self._ends, self._numbers = (each.to_numpy(zero_copy_only=False) for each in (column.offsets, column.values))

    def __getitem__(self, row: int) -> list[int]:
        return self._numbers[self._ends[row] : self._ends[row + 1]].tolist()


def check_whole(batch_idx: int, examples: Sequence[Example], size: int) -> None:
    """Every step's guard: these are all `size` rows of this batch, in its order, and nothing else."""
    found = [(example.batch_idx, example.in_batch_idx) for example in examples]
    if found != [(batch_idx, place) for place in range(size)]:
        raise RunError(f"batch {batch_idx} was to be trained whole, and rows {found[:3]}... came")


def micro_batches(
    examples: Sequence[Example], budget: int | None, size: Callable[[Example], int] = len, packed: bool = False
) -> list[list[Example]]:
    """Groups of at most `budget` tokens, padding counted where rows are not packed; all in one unless given. Rows keep
    no order among groups. `size` says how many tokens a row takes, where it is not its own."""
    sizes = list(map(size, examples))
    if not sizes or budget is None:
        return [list(examples)] if sizes else []
    if packed:
        ends = np.cumsum(sizes)
        starts = [0]
        for place, end in enumerate(ends):
            if end - (ends[starts[-1]] - sizes[starts[-1]]) > budget and place > starts[-1]:
                starts.append(place)
        return [list(examples[start:stop]) for start, stop in pairwise([*starts, len(sizes)])]
    groups = pack(sizes, budget)
    return [[examples[place] for place in sorted(group.tolist())] for group in groups]


def rows_of(examples: Sequence[Example], device: torch.device, packed: bool = False) -> Rows:
    """The prompts and targets of examples as tensors; without any, rows of no meaning, for the forward pass of a worker
    that has none while others have."""
    prompts, targets = [example.prompt for example in examples], [example.target for example in examples]
    return make_rows(prompts or [[0]], targets or [[0]], device, packed=packed)
