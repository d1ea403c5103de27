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

    def set_epoch(self, epoch: int) -> None:
        """Each epoch has an order of its own."""
        checks.whole_number(epoch, "epoch")
        self.epoch = epoch

    def order(self) -> list[int]:
        """All batches in the order of this epoch, the same on every worker."""
        batches = sorted(self._rows)
        if not self.shuffle:
            return batches
        shuffled = np.random.default_rng([self.seed, self.epoch]).permutation(len(batches))
        return [batches[place] for place in shuffled]

    def mine(self) -> list[int]:
        """This worker's batches in order."""
        return self.order()[self.rank :: self.world]

    def __iter__(self) -> Iterator[list[int]]:
        return (self._rows[batch] for batch in self.mine())

    def __len__(self) -> int:
        return len(self.mine())
