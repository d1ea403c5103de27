"""The analysis batches as training sees them: whole, in order, with the tokens that `compose` gave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        columns = ["batch_idx", "in_batch_idx", "prompt_id", "label", *_TOKENS]
        self._table: pa.Table = run.read_table(BATCHES, columns)
        self.batch_idx: list[int] = self._table["batch_idx"].to_pylist()
        self.prompt_ids: list[str] = self._table["prompt_id"].to_pylist()
        if not self.batch_idx:
            raise InputError("holds no batch", file=run.path(BATCHES))

    def __len__(self) -> int:
        return len(self.batch_idx)

    def __getitem__(self, row: int) -> Example:
        (one,) = self._table.slice(row, 1).to_pylist()
        prompt, prefix, target, before_answer, answer = (one[name] for name in _TOKENS)
        place = (one["batch_idx"], one["in_batch_idx"], one["label"])
        return Example(*place, [*prompt, *prefix], target, [*prompt, *before_answer], answer)


def check_whole(batch_idx: int, examples: Sequence[Example], size: int) -> None:
    """Every step's guard: these are all `size` rows of this batch, in its order, and nothing else."""
    found = [(example.batch_idx, example.in_batch_idx) for example in examples]
    if found != [(batch_idx, place) for place in range(size)]:
        raise RunError(f"batch {batch_idx} was to be trained whole, and rows {found[:3]}... came")


def micro_batches(
    examples: Sequence[Example], budget: int | None, size: Callable[[Example], int] = len
) -> list[list[Example]]:
    """Groups of at most `budget` tokens, padding counted; all in one unless given. Rows keep no order among groups.
    `size` says how many tokens a row takes, where it is not its own."""
    sizes = list(map(size, examples))
    if not sizes:
        return []
    groups = pack(sizes, budget or len(sizes) * max(sizes))
    return [[examples[place] for place in sorted(group.tolist())] for group in groups]


def rows_of(examples: Sequence[Example], device: torch.device) -> Rows:
    """The prompts and targets of examples as padded tensors."""
    return make_rows([example.prompt for example in examples], [example.target for example in examples], device)


def idle_rows(device: torch.device) -> Rows:
    """Rows of no meaning, for the forward pass of a worker that has none while others have."""
    return make_rows([[0]], [[0]], device)
