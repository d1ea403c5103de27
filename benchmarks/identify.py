"""What gradient and causal identification cost.

    python benchmarks/identify.py

Gradients: time and peak memory against a plain forward and backward pass that keeps every expert's gradient; each in a
process of its own, since a process's peak is never taken back. Effects: against one forward pass per expert and prompt,
on the demo model. Actors: two against one, a thread each. Ratios come from this one run.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from moe_safety.config import ModelConfig, load_config
from moe_safety.models.answers import answer_losses, make_rows
from moe_safety.models.demo import language
from moe_safety.models.encode import answer_tokens, prompt_tokens
from moe_safety.models.experts import expert_effects, gradient_magnitudes, use_our_experts
from moe_safety.models.experts.effects import Trial, margins
from moe_safety.models.experts.weighing import holding_back
from moe_safety.models.layout import inspect_model
from moe_safety.models.load import load_model, load_tokenizer
from moe_safety.pipeline import run_one

SHAPE = {"hidden_size": 512, "intermediate_size": 512, "num_hidden_layers": 8, "num_experts": 64, "vocab_size": 500}
ROWS, PROMPT, ANSWER = 8, 24, 12


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one_backward(variant: str) -> dict[str, float]:
    """Seconds of one batch and the peak beyond what the imports took."""
    torch.set_num_threads(2)
    before = peak_bytes()
    model = use_our_experts(OlmoeForCausalLM(OlmoeConfig(**SHAPE, num_attention_heads=8, num_experts_per_tok=8))).eval()
    model.requires_grad_(False)
    layout = inspect_model(model)
    chosen = [model.get_parameter(name) for layer in layout.layers for name in layer.parameters]
    chooser = random.Random(0)
    tokens = [[chooser.randrange(500) for _ in range(PROMPT + ANSWER)] for _ in range(ROWS)]
    rows = make_rows([row[:PROMPT] for row in tokens], [row[PROMPT:] for row in tokens])

    def plain() -> None:
        for parameter in chosen:
            parameter.requires_grad_()
            parameter.grad = None
        answer_losses(model, rows)[0].mean().backward()

    def ours() -> None:
        gradient_magnitudes(model, [rows], layout=layout)

    run: Callable[[], None] = {"plain": plain, "ours": ours}[variant]
    times = []
    for _ in range(6):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    gradients = sum(parameter.numel() for parameter in chosen) * 4
    return {"seconds": min(times), "peak": peak_bytes() - before, "gradients": gradients}


def gradients() -> None:
    measured = {}
    for variant in ("plain", "ours"):
        command = [sys.executable, __file__, variant]
        measured[variant] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    plain, ours = measured["plain"], measured["ours"]
    print(
        f"gradients: {ours['seconds']:.2f} s against {plain['seconds']:.2f} s plain, "
        f"{ours['seconds'] / plain['seconds']:.2f} of the time (goal at most 1.10)"
    )
    print(
        f"  peak {ours['peak'] / 1e9:.2f} GB against {plain['peak'] / 1e9:.2f} GB, "
        f"{ours['peak'] / plain['peak']:.2f} of the memory (goal at most 0.60); "
        f"the gradients are {plain['gradients'] / plain['peak']:.2f} of the plain peak"
    )


def effects() -> None:
    torch.set_num_threads(1)
    config = ModelConfig(name="demo")
    model, tokenizer = load_model(config), load_tokenizer(config)
    layout = inspect_model(model)
    requests = language.requests(True)[-4:]
    prompts = [prompt_tokens(tokenizer, language.word_reversed(request)) for request in requests]
    safe = [answer_tokens(tokenizer, language.REFUSAL) for _ in requests]
    unsafe = [answer_tokens(tokenizer, request.answer)[:16] for request in requests]
    started = time.perf_counter()
    found = expert_effects(model, prompts, safe, unsafe)
    ours = time.perf_counter() - started

    started = time.perf_counter()
    with torch.inference_mode():
        for row, trial in enumerate(Trial(*three) for three in zip(prompts, safe, unsafe, strict=True)):
            base = float(margins(model, [trial])[0])
            for position in range(layout.n_moe_layers):
                for expert in range(layout.max_experts):
                    held = torch.full((layout.n_moe_layers, 2), -1)
                    held[position] = expert
                    with holding_back(model, layout, held):
                        effect = float(margins(model, [trial])[0]) - base
                    assert abs(effect - float(found[row, position, expert])) < 1e-3
    single = time.perf_counter() - started
    count = len(prompts) * len(layout.experts())
    print(
        f"effects: {count} in {ours:.2f} s, one forward pass each in {single:.2f} s: "
        f"{single / ours:.1f} times faster (goal at least 5)"
    )


def actors() -> None:
    speeds = []
    for replicas in (1, 2):
        folder = tempfile.mkdtemp()
        flags = [f"run_dir={folder}", f"gradients.replicas={replicas}", "data.test_fraction=0.0"]
        config = load_config("configs/demo.yaml", [*flags, "data.validation_fraction=0.0", "batches.batch_size=4"])
        for stage in ("prepare", "respond", "compose"):
            run_one(stage, config)
        speeds.append(run_one("gradients", config)["summary"]["tokens_per_second"])
    print(
        f"gradients, 1 actor {speeds[0]:,.0f} tokens/s, 2 actors {speeds[1]:,.0f}: "
        f"{speeds[1] / speeds[0]:.2f} times (goal at least 1.70)"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(one_backward(sys.argv[1])))
    else:
        gradients()
        effects()
        actors()
