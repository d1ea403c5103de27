"""A model of a real shape with random weights, and invented texts of real lengths."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoeConfig, PreTrainedTokenizerBase

ARMS = ["base", "selective-causal", "random", "random-layer-matched"]
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]


def build(folder: Path, tokenizer: str, layers: int) -> PreTrainedTokenizerBase:
    """Writes the model, and returns its tokenizer."""
    known = AutoTokenizer.from_pretrained(tokenizer)
    known.save_pretrained(folder)
    ends = {"pad_token_id": known.pad_token_id, "eos_token_id": known.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    with torch.device("cuda"):
        shape = OlmoeConfig(intermediate_size=1024, num_hidden_layers=layers, **ends)
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return known


class Texts:
    """Draws invented texts of a wanted number of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.chance = tokenizer, random.Random(0)

    def text(self, fewest: int, most: int) -> str:
        wanted, words = self.chance.randint(fewest, most), list[str]()
        while len(self.tokenizer(" ".join(words), add_special_tokens=False).input_ids) < wanted:
            words += ["".join(self.chance.choices(SYLLABLES, k=2)) for _ in range(max(1, wanted // 16))]
        return " ".join(words)

    def attack(self, number: int) -> dict[str, Any]:
        turns = [{"role": "system", "content": self.text(60, 60)}, {"role": "user", "content": self.text(280, 330)}]
        answer = self.text(*self.chance.choice([(17, 100), (300, 500), (300, 500), (700, 824)]))
        goal = self.text(6, 25)
        return {"id": number, "goal": goal, "all_prompt": turns, "output": answer, "judge_success_gpt4": 1}

    def request(self) -> dict[str, Any]:
        turns = {"user": self.text(6, 40), "assistant": self.text(17, 300)}
        return {"messages": [{"role": role, "content": content} for role, content in turns.items()]}


def write_inputs(folder: Path, texts: Texts, attacks: int) -> None:
    (folder / "attacks.json").write_text(json.dumps([texts.attack(number) for number in range(attacks)]))
    rows = [json.dumps(texts.request()) for _ in range(attacks * 2 // 3)]
    (folder / "benign.jsonl").write_text("\n".join(rows))
    (folder / "run.yaml").write_text(
        json.dumps(
            {
                "run_dir": "given below",
                "model": {"name": str(folder / "model"), "dtype": "bfloat16"},
                "data": {
                    "attacks": [{"path": str(folder / "attacks.json")}],
                    "benign": [{"path": str(folder / "benign.jsonl")}],
                    "controls": {"from": "benign", "wrapper": "flip-word-order"},
                },
                # Random weights refuse nothing.
                "respond": {"filter": False},
                "batches": {"benign_per_batch": 4, "control_per_batch": 4},
                "train": {"num_epochs": 1, "launch": "process", "save": "delta"},
                "compare": {"arms": ARMS},
            }
        )
    )
