"""The order of training: whole analysis batches, shuffled among each other and never inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from moe_safety import checks


class BatchPreservingSampler(Sampler[list[int]]):
    """A sampler of whole batches: yields the rows of one at a time, in their order, for
    `DataLoader(..., batch_sampler=...)`.

    `batch_idx` is the batch of each row of the dataset. Of `world` workers, worker `rank` gets every `world`-th batch;
    none is dropped, so in an epoch's last step some workers may be left without. Batches are shuffled among each other
    by `seed` and epoch, where `shuffle` is true.

    >>> list(BatchPreservingSampler([0, 0, 1, 1, 2], shuffle=False))
    [[0, 1], [2, 3], [4]]
    >>> list(BatchPreservingSampler([0, 0, 1, 1, 2], rank=1, world=2, shuffle=False))
    [[2, 3]]
    """

    def __init__(
        self, batch_idx: Sequence[int], *, rank: int = 0, world: int = 1, shuffle: bool = True, seed: int = 42
    ) -> None:
        checks.whole_number(world, "world", 1)
        checks.whole_number(rank, "rank")
        checks.require(rank < world, "rank", f"is {rank}, and the last of {world} workers is {world - 1}")
        checks.whole_number(seed, "seed")
        self.rank, self.world, self.shuffle, self.seed, self.epoch = rank, world, shuffle, seed, 0
        self._rows: dict[int, list[int]] = {}
        for row, batch in enumerate(checks.whole_numbers(batch_idx, "batch_idx")):
            self._rows.setdefault(batch, []).append(row)
        self._set_order()

    def set_epoch(self, epoch: int) -> None:
        """Each epoch has an order of its own."""
        checks.whole_number(epoch, "epoch")
        if epoch != self.epoch:
            self.epoch = epoch
            self._set_order()

    def order(self) -> list[int]:
        """All batches in the order of this epoch, the same on every worker."""
        return self._order

    def rows(self, batch: int) -> list[int]:
        """The rows of a batch, in order."""
        return self._rows[batch]

    def _set_order(self) -> None:
        """Once an epoch: a run may have many batches."""
        self._order = sorted(self._rows)
        if self.shuffle:
            shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(self._order))
            self._order = [self._order[place] for place in shuffled]
        self._mine = self._order[self.rank :: self.world]

    def mine(self) -> list[int]:
        """This worker's batches in order."""
        return self._mine

    def __iter__(self) -> Iterator[list[int]]:
        return (self._rows[batch] for batch in self.mine())

    def __len__(self) -> int:
        return len(self.mine())
