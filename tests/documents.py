"""What the documents say, for tests: pages, their blocks of code, and the keys of the configuration's page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
EXAMPLES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "examples").rglob("*.md"))}
CONFIGURATION = PAGES["docs/configuration.md"].partition("\n## Scores\n")[0]
DEFAULTS: dict[str, str] = dict(re.findall(r"^\| `([\w.-]+)` \| (.*?[^\\]) \| ", CONFIGURATION, re.MULTILINE))
"""The keys of the page, and how it shows their defaults."""
SAME: dict[str, str] = dict(re.findall(r"^## (\S+)\n\nThe same keys as `(\S+)`", CONFIGURATION, re.MULTILINE))
"""The sections of the page that have the keys of another."""
KINDS = set(re.findall(r"^\| `(judges\.\w+\.kind)` \| what \|$", CONFIGURATION, re.MULTILINE))


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Code in running text."""
    prose = re.sub(r"^```.*?^```|``[^`].*?``", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def told(key: str) -> str:
    """The key as the page has it, where a section has the keys of another."""
    for section, same in SAME.items():
        if key.startswith(f"{section}.") and key not in DEFAULTS:
            return told(same + key.removeprefix(section))
    return key


def is_known(key: str) -> bool:
    """Whether the page has the key, or keys below it."""
    key = told(key)
    known = (*DEFAULTS, *SAME, *KINDS)
    return key in known or any(one.startswith(f"{key}.") for one in known)


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value, as far down as the page goes."""
    for name, value in values.items():
        key = f"{path}.{name}".lstrip(".")
        inner = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
        deeper = any(known.startswith(f"{told(key)}.") for known in DEFAULTS) or key in SAME
        if inner and deeper:
            for one in inner:
                yield from leaves(one, key)
        else:
            yield told(key), value
