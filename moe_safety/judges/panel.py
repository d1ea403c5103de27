"""Several judges, and what most of them say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from moe_safety.judges.ask import ask
from moe_safety.judges.verdict import Exchange, Judge, Verdict


class Panel(Judge):
    """The verdict is what more than half of the judges say, whichever label that is; unparsed otherwise."""

    def __init__(self, judges: Mapping[str, Judge]) -> None:
        self.judges = dict(judges)

    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        columns = [ask(judge, exchanges) for judge in self.judges.values()]
        return [self._together(verdicts) for verdicts in zip(*columns, strict=True)]

    def _together(self, verdicts: Sequence[Verdict]) -> Verdict:
        label, count = Counter(verdict.label for verdict in verdicts).most_common(1)[0]
        named = list(zip(self.judges, verdicts, strict=True))
        reason = "; ".join(f"{name} {verdict.label}: {verdict.reason}" for name, verdict in named)
        votes = tuple((name, verdict.label) for name, verdict in named)
        return Verdict(label if 2 * count > len(verdicts) else "unparsed", reason, votes)
