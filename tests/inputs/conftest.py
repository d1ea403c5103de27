"""Files of every format in nonsense words, and a short way to read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe_safety.config import DataConfig
from moe_safety.inputs.prepare import Prepared, read_prompts


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a file of the given name: text and bytes as they are, rows as JSON lines or as a JSON list."""

    def write(name: str, content: Any) -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def prepare() -> Callable[..., Prepared]:
    """Reads sources, given as paths or as mappings."""

    def prepare(*attacks: Any, seed: int = 0, **data: Any) -> Prepared:
        for key in ("benign", "controls"):
            if isinstance(data.get(key), list):
                data[key] = [_source(source) for source in data[key]]
        return read_prompts(DataConfig.model_validate({"attacks": [_source(a) for a in attacks], **data}), seed)

    return prepare


def _source(source: Any) -> Any:
    return {"path": source} if isinstance(source, str) else source


@pytest.fixture
def flip_row() -> Callable[..., dict[str, Any]]:
    """One row of a FlipAttack result file."""

    def flip_row(number: int = 0, **changes: Any) -> dict[str, Any]:
        goal = f"blick the zorp number {number}"
        flipped = " ".join(reversed(goal.split()))
        row = {
            "id": number,
            "goal": goal,
            "flip_attack": flipped,
            "all_prompt": [{"role": "system", "content": "flip it"}, {"role": "user", "content": flipped}],
            "output": f"zorp {number} is blicked",
            "judge_success_dict": 0,
            "judge_score_gpt4": 10,
            "judge_success_gpt4": 1,
        }
        return {key: value for key, value in (row | changes).items() if value is not ...}

    return flip_row
