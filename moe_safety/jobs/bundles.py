"""Bundles: the items that a replica is given at once. They hang on what is left to do and on the number of replicas, so
nothing that is made of an item may hang on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby

from moe_safety.jobs.job import Job


def bundles(jobs: Sequence[Job], todo: Sequence[tuple[int, int]], replicas: int) -> list[tuple[int, list[int]]]:
    """The items of `todo`, each a job's number and an item, in order: for each bundle the job and its items. A bundle
    has as many as the job's handler takes at once, but so few that no replica is left without."""
    most = [jobs[job].at_once(item) for job, item in todo]
    sharing, found = sum(many > 1 for many in most), list[tuple[int, list[int]]]()
    for (job, shared), run in groupby(range(len(todo)), key=lambda place: (todo[place][0], most[place] > 1)):
        places = list(run)
        shares = [Fraction(1, most[place]) for place in places]
        pieces = len(places)
        if shared:
            pieces = min(pieces, max(math.ceil(sum(shares)), math.ceil(Fraction(replicas * len(places), sharing))))
        each, before, begun = sum(shares) / pieces, Fraction(0), 0
        for number, (place, share) in enumerate(zip(places, shares, strict=True)):
            if before >= begun * each or len(places) - number <= pieces - begun:
                found.append((job, []))
                begun += 1
            found[-1][1].append(todo[place][1])
            before += share
    return found
