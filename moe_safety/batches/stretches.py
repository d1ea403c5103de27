"""Stretches of consecutive batches: what is planned and summed at once, so that memory does not grow with them."""

from __future__ import annotations

import numpy as np

ROWS = 1 << 15
"""About how many rows a stretch has."""


def stretches(batch_idx: np.ndarray) -> np.ndarray:
    """The number of the stretch that each row belongs to; batches stay whole.

    >>> import numpy as np
    >>> stretches(np.repeat(np.arange(5000), 16))[[0, 32767, 32768, 79999]].tolist()
    [0, 0, 1, 2]
    """
    _, batch, sizes = np.unique(batch_idx, return_inverse=True, return_counts=True)
    return ((np.cumsum(sizes) - sizes) // ROWS)[batch]
