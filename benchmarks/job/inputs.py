"""A model of a real shape with random weights, and invented texts of real lengths."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    OlmoeConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen3MoeConfig,
)

from moe_safety.models.io.save import save_model

ARMS = ["base", "selective-causal", "random", "random-layer-matched"]
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]


QWEN3: dict[str, Any] = {
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
}
TINY = {"hidden_size": 64, "num_attention_heads": 4, "head_dim": 16, "moe_intermediate_size": 32, "num_experts": 16}


def shape_of(name: str, **others: Any) -> PretrainedConfig:
    """`olmoe` is OLMoE-1B-7B, `qwen3` Qwen3-30B-A3B, and `tiny` the latter made so small that any machine runs it."""
    if name == "olmoe":
        return OlmoeConfig(**{"intermediate_size": 1024} | others)
    layers = {"num_hidden_layers": 48} if name == "qwen3" else {"num_hidden_layers": 3, "vocab_size": 49152}
    return Qwen3MoeConfig(**QWEN3 | (TINY if name == "tiny" else {}) | layers | others)


def ends_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a model's configuration says of its tokenizer."""
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}


def build(folder: Path, tokenizer: str, layers: int | None = None, shape: str = "olmoe") -> PreTrainedTokenizerBase:
    """Writes a model of random weights in bfloat16, unless it is there, and returns its tokenizer."""
    known = AutoTokenizer.from_pretrained(tokenizer)
    if (folder / "config.json").exists():
        return known
    known.save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        wanted = shape_of(shape, **ends_of(known), **({"num_hidden_layers": layers} if layers else {}))
        model = AutoModelForCausalLM.from_config(wanted, dtype=torch.bfloat16)
    save_model(model, folder)
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return known


class Texts:
    """Draws invented texts of a wanted number of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.chance = random.Random(0)
        self.words = ["".join(self.chance.choices(SYLLABLES, k=2)) for _ in range(4000)]
        behind = tokenizer([f" {word}" for word in self.words], add_special_tokens=False).input_ids
        self.sizes = [len(tokens) for tokens in behind]

    def text(self, fewest: int, most: int) -> str:
        wanted, words = self.chance.randint(fewest, most), list[str]()
        while wanted > 0:
            place = self.chance.randrange(len(self.words))
            words.append(self.words[place])
            wanted -= self.sizes[place]
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
    """The files of a run and its configuration, unless they are there."""
    if (folder / "run.yaml").exists():
        return
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
