"""What a selective step costs on a CPU, against a step of all parameters with AdamW in the same loop.

    python benchmarks/train.py

Experts hold over 80 % of the parameters and see at most 64 tokens each; 5 % of them train. Each variant runs in a
process of its own, since a process's peak is never taken back. Ratios come from this one run.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from moe_safety.models import inspect_model
from moe_safety.models.experts import count_routing, selective_experts, use_our_experts
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.train.engines import PlainEngine
from moe_safety.train.optimizer import LazyAdamW, MasterAdamW
from moe_safety.train.world import World

SHAPE = {"hidden_size": 512, "intermediate_size": 512, "num_hidden_layers": 6, "num_experts": 64, "vocab_size": 500}
ROWS, PROMPT, ANSWER, SHARE, STEPS = 4, 12, 8, 0.05, 8


def one(variant: str) -> dict[str, float]:
    """Seconds of a step, and the peak beyond what the imports took."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    before = _peak()
    config = OlmoeConfig(**SHAPE, num_attention_heads=8, num_experts_per_tok=8)
    model = use_our_experts(OlmoeForCausalLM(config)).eval()
    layout = inspect_model(model)
    everyone = layout.experts()
    owned = sum(layer.parameters_per_expert * layer.num_experts for layer in layout.layers)
    chooser = random.Random(0)
    tokens = [[chooser.randrange(500) for _ in range(PROMPT + ANSWER)] for _ in range(ROWS)]
    rows = make_rows([row[:PROMPT] for row in tokens], [row[PROMPT:] for row in tokens])
    everywhere = torch.ones_like(rows.input_ids)  # All rows are equally long.
    seen = int(count_routing(model, rows.input_ids, everywhere, everywhere).sum(0).max())
    with ExitStack() as stack:
        optimizer: LazyAdamW | MasterAdamW
        if variant == "selective":
            experts = chooser.sample(everyone, round(SHARE * len(everyone)))
            selective = stack.enter_context(selective_experts(model, experts))
            trained = dict(selective.named_parameters())
            optimizer = LazyAdamW(trained.values(), weight_decay=0.1)
        else:
            trained = dict(model.named_parameters())
            optimizer = MasterAdamW(trained.values(), weight_decay=0.1)
        engine = PlainEngine(trained, optimizer, 1.0, World())
        times = []
        for _ in range(STEPS):
            started = time.perf_counter()
            engine.backward(answer_losses(model, rows)[0].mean(), last=True)
            engine.step(1e-5)
            times.append(time.perf_counter() - started)
    share = owned / sum(parameter.numel() for parameter in model.parameters())
    return {"seconds": statistics.median(times[2:]), "peak": _peak() - before, "share": share, "seen": seen}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(one(sys.argv[1])))
        return
    found = {}
    for variant in ("selective", "baseline"):
        command = [sys.executable, __file__, variant]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "2"})
        found[variant] = json.loads(done.stdout)
    fast, slow = found["selective"], found["baseline"]
    print(
        f"experts hold {slow['share']:.0%} of the parameters and see at most {slow['seen']} tokens each\n"
        f"selective {fast['seconds']:.3f} s and {fast['peak'] / 1e9:.2f} GB, "
        f"baseline {slow['seconds']:.3f} s and {slow['peak'] / 1e9:.2f} GB a step: "
        f"{fast['seconds'] / slow['seconds']:.2f} of the time (goal at most 0.50), "
        f"{fast['peak'] / slow['peak']:.2f} of the memory (goal at most 0.40)"
    )


if __name__ == "__main__":
    main()
