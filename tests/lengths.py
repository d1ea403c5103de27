"""A small model with a tokenizer of its own, and files whose prompts and answers are as long as real ones, in invented
words: attacks of 365 to 423 tokens, answers of 17 to 824, plain goals of 6 to 25."""

import json
import random

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from tests.templates import template_tokenizer

SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
PREAMBLE = "you are an expert who reads what is written backwards and does it step by step without a word of doubt "


def words(chance, count):
    return ["".join(chance.choice(SYLLABLES) for _ in range(chance.randint(1, 3))) for _ in range(count)]


class Texts:
    """Draws texts of a wanted number of tokens."""

    def __init__(self, template, seed=0):
        self.chance = random.Random(seed)
        self.known = sorted({*words(self.chance, 400), *PREAMBLE.split()})
        self.tokenizer = template_tokenizer(template, [*self.known * 3], size=3000)

    def text(self, tokens):
        """Each word is a token, since the tokenizer knows them all."""
        return " ".join(self.chance.choice(self.known) for _ in range(tokens))

    def length(self, text):
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)


def write_model(folder, texts):
    torch.manual_seed(0)
    config = OlmoeConfig(
        vocab_size=len(texts.tokenizer),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=2048,
        pad_token_id=texts.tokenizer.pad_token_id,
        eos_token_id=texts.tokenizer.eos_token_id,
        bos_token_id=None,
    )
    OlmoeForCausalLM(config).save_pretrained(folder)
    texts.tokenizer.save_pretrained(folder)


def write_files(folder, texts, goals=30):
    """FlipAttack's own form, and harmless requests with answers."""
    lengths = random.Random(1)
    attacks = []
    for number in range(goals):
        goal = texts.text(lengths.randint(6, 25))
        wrapped = texts.text(lengths.randint(365, 423) - texts.length(PREAMBLE))
        attacks.append(
            {
                "id": number,
                "goal": goal,
                "all_prompt": [{"role": "system", "content": PREAMBLE}, {"role": "user", "content": wrapped}],
                "output": texts.text(lengths.choice([17, 60, 128, 400, 824])),
                "judge_success_gpt4": 1,
            }
        )
    (folder / "attacks.json").write_text(json.dumps(attacks))
    benign = []
    for _ in range(goals):
        turns = [("user", lengths.randint(6, 60)), ("assistant", lengths.choice([17, 128, 400]))]
        benign.append({"messages": [{"role": role, "content": texts.text(size)} for role, size in turns]})
    (folder / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in benign))
