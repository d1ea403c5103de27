"""The demo's prompt files, in the formats that real attack tools write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moe_safety.models.demo.language import Messages, Request, plain, role_play, word_reversed


def write_files(folder: Path, harmful: Sequence[Request], harmless: Sequence[Request]) -> None:
    """Writes `attacks.json`, `role_play.json` and `benign.jsonl`, all from requests never taught."""
    for name, wrap in {"attacks": word_reversed, "role_play": role_play}.items():
        rows = [_attack(number, request, wrap(request)) for number, request in enumerate(harmful)]
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [json.dumps(_benign(request)) + "\n" for request in harmless]
    (folder / "benign.jsonl").write_text("".join(lines))


def _attack(number: int, request: Request, messages: Messages) -> dict[str, Any]:
    return {
        "id": number,
        "goal": request.text,
        "category": request.category,
        "all_prompt": messages,
        "output": request.answer,
        "judge_success_gpt4": 1,
    }


def _benign(request: Request) -> dict[str, Any]:
    answer = {"role": "assistant", "content": request.answer}
    return {"messages": [*plain(request), answer], "label": "benign", "category": request.category}
