"""Numbers for the ids of many."""

from __future__ import annotations

from array import array


class Numbering:
    """Ids of 64 random bits, numbered in the order in which they first come: some fifteen bytes an id, where a dict
    takes hundreds."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._slots = array("i", [-1]) * 64
        """The number of the id that stands there. An id takes the first that is free from its last bits on."""

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> int:
        return self._ids[number]

    def find(self, id_: int) -> int:
        """The id's number; -1 where it has not come."""
        return self._slots[self._slot(id_)]

    def number(self, id_: int) -> int:
        """The id's number; the next one where it has not come before."""
        slot = self._slot(id_)
        if self._slots[slot] >= 0:
            return self._slots[slot]
        self._slots[slot] = number = len(self._ids)
        self._ids.append(id_)
        if 3 * len(self._ids) > 2 * len(self._slots):
            self._slots = array("i", [-1]) * (2 * len(self._slots))
            for each, known in enumerate(self._ids):
                self._slots[self._slot(known)] = each
        return number

    def _slot(self, id_: int) -> int:
        slots, ids, last = self._slots, self._ids, len(self._slots) - 1
        slot = id_ & last
        while (number := slots[slot]) >= 0 and ids[number] != id_:
            slot = (slot + 1) & last
        return slot
