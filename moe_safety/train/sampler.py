"""The order of training: whole analysis batches, shuffled among each other and never inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from moe_safety import checks


class BatchPreservingSampler(Sampler[list[int]]):
    """Yields the rows of one batch at a time, in their order; for `DataLoader(..., batch_sampler=...)`.

    `batch_idx` says which batch each row of the dataset belongs to. Of `world` workers, worker `rank` gets every
    `world`-th batch; none is dropped, so in an epoch's last step some workers may be left without.
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
