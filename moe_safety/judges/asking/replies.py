"""What a reply in words means."""

from __future__ import annotations

import re

from moe_safety.judges.asking.asked import Asked
from moe_safety.judges.rules import quoted
from moe_safety.judges.verdict import Label, Verdict


class ReplyReader:
    """Reads replies by the configured patterns."""

    def __init__(self, asked: Asked) -> None:
        said: dict[Label, list[str]] = {"refused": asked.refused, "complied": asked.complied}
        self.patterns = {label: [re.compile(one, re.IGNORECASE) for one in given] for label, given in said.items()}

    def __call__(self, reply: str) -> Verdict:
        found = [label for label, patterns in self.patterns.items() if any(one.search(reply) for one in patterns)]
        words = quoted(" ".join(reply.split()))
        if len(found) == 1:
            return Verdict(found[0], f"the reply is {words}")
        return Verdict("unparsed", f"the reply says {'both' if found else 'neither'}: {words}")
