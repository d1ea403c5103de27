"""On a machine with a GPU: a whole `moe-safety run`, as a user starts it, on a model of a real shape and prompts of
real length.

    python benchmarks/gpu/job.py --tokenizer FOLDER [--layers 16] [--attacks 371] [--runs 2] [--set key=value ...]

The model has the shape of OLMoE-1B-7B and random weights in bfloat16 (13.8 GB); the tokenizer is a real chat model's,
in a folder or on the hub. Texts are invented words: attacks of 365 to 423 tokens, recorded answers of 17 to 824, plain
goals of 6 to 25. Four arms are compared: the base, `selective-causal`, and its two controls drawn by chance. The first
run is cold, the next ones find compiled code and the page cache warm. Beside each stage's seconds stands how long the
card was at rest.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
                "compare": {"arms": ARMS, "parallel": 1},
            }
        )
    )


@contextmanager
def watched(step: float = 0.25) -> Iterator[list[tuple[float, int]]]:
    """Inside, the card's utilisation now and then, with the time."""
    seen: list[tuple[float, int]] = []
    over = threading.Event()

    def look() -> None:
        ask = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
        while not over.wait(step):
            said = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
            if said.isdigit():
                seen.append((time.time(), int(said)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run_once(folder: Path, name: str, overrides: list[str]) -> None:
    run_dir = folder / name
    flags = [flag for one in [f"run_dir={run_dir}", *overrides] for flag in ("--set", one)]
    began = time.time()
    with watched() as seen:
        done = subprocess.run([sys.executable, "-m", "moe_safety", "run", str(folder / "run.yaml"), *flags])
    took = time.time() - began
    print(f"\n{name}: exit {done.returncode}, {took:.0f} s in all, card at rest {_rest(seen, began, began + took)}")
    for stage, one in sorted(
        json.loads((run_dir / "manifest.json").read_text()).items(), key=lambda kv: kv[1]["started"]
    ):
        if "finished" in one:
            seconds = one["finished"] - one["started"]
            print(f"  {stage:32} {seconds:7.1f} s  at rest {_rest(seen, one['started'], one['finished'])}")
    print(flush=True)


def _rest(seen: list[tuple[float, int]], start: float, end: float) -> str:
    here = [share for at, share in seen if start <= at <= end]
    return f"{sum(share == 0 for share in here) / len(here):.0%}" if here else "n/a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--attacks", type=int, default=371)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        began = time.time()
        write_inputs(folder, Texts(build(folder / "model", args.tokenizer, args.layers)), args.attacks)
        print(f"model and texts: {time.time() - began:.0f} s", flush=True)
        for number in range(args.runs):
            run_once(folder, f"run-{number + 1}", args.overrides)


if __name__ == "__main__":
    main()
