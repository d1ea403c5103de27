"""What gradient and causal identification cost.

    python benchmarks/identify.py

Gradients: time and peak memory against a plain forward and backward pass that keeps every expert's gradient; each in a
process of its own, since a process's peak is never taken back. Memory is what the pass takes beyond the loaded model,
whose weights are as large as the gradients: with them, gradients can never be half. Effects: against one forward pass
per expert and prompt, on the demo model. Actors: two against one, a thread each. Ratios come from this one run.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from capture import write_batches
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedModel

from moe_safety.config import ModelConfig
from moe_safety.everything import load_config
from moe_safety.models import inspect_model
from moe_safety.models.demo import language
from moe_safety.models.experts import Trial, gradient_magnitudes, margins, measured_effects, use_our_experts, way_of
from moe_safety.models.io import load_chat, load_model
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir

SHAPE = {"hidden_size": 768, "intermediate_size": 768, "num_hidden_layers": 8, "num_experts": 16, "vocab_size": 500}
ROWS, PROMPT, ANSWER = 12, 24, 12
PROMPTS = 3200


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def one_backward(variant: str) -> dict[str, float]:
    """For a variant, the model's memory and what passes take beyond it; for `both`, how their times compare."""
    torch.set_num_threads(1)
    imported = resident_bytes()
    model = use_our_experts(OlmoeForCausalLM(OlmoeConfig(**SHAPE, num_attention_heads=8, num_experts_per_tok=8))).eval()
    model.requires_grad_(False)
    layout = inspect_model(model)
    chosen = [model.get_parameter(name) for layer in layout.layers for name in layer.parameters]
    chooser = random.Random(0)
    tokens = [[chooser.randrange(500) for _ in range(PROMPT + ANSWER)] for _ in range(ROWS)]
    rows = make_rows([row[:PROMPT] for row in tokens], [row[PROMPT:] for row in tokens])
    loaded = resident_bytes()

    def plain() -> None:
        for parameter in chosen:
            parameter.requires_grad_()
        answer_losses(model, rows)[0].mean().backward()

    def ours() -> None:
        gradient_magnitudes(model, [rows], layout=layout)

    def seconds(run: Callable[[], None]) -> float:
        """Of the processor, which other work on the machine changes little: there is one thread."""
        started = time.process_time()
        run()
        taken = time.process_time() - started
        model.zero_grad()
        return taken

    if variant == "both":
        pairs = [(seconds(plain), seconds(ours)) for _ in range(6)][1:]
        one, two = (statistics.median(times) for times in zip(*pairs, strict=True))
        return {"plain": one, "ours": two, "ratio": statistics.median(ours / plain for plain, ours in pairs)}
    for _ in range(3):
        seconds({"plain": plain, "ours": ours}[variant])
    gradients = sum(parameter.numel() for parameter in chosen) * 4
    return {"model": loaded - imported, "peak": peak_bytes() - loaded, "gradients": gradients}


def gradients() -> None:
    measured = {}
    for variant in ("plain", "ours", "both"):
        command = [sys.executable, __file__, variant]
        measured[variant] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    plain, ours, times = measured.values()
    print(
        f"gradients: {times['ours']:.2f} s against {times['plain']:.2f} s plain, {times['ratio']:.2f} of the time "
        "(median of pairs; goal at most 1.10)"
    )
    print(
        f"  peak {ours['peak'] / 1e9:.2f} GB against {plain['peak'] / 1e9:.2f} GB, "
        f"{ours['peak'] / plain['peak']:.2f} of the memory (goal at most 0.60); "
        f"the gradients are {plain['gradients'] / plain['peak']:.2f} of the plain peak"
    )
    whole = [one["model"] + one["peak"] for one in (ours, plain)]
    print(f"  with the model {whole[0] / 1e9:.2f} GB against {whole[1] / 1e9:.2f} GB, {whole[0] / whole[1]:.2f}")


@torch.inference_mode()
def effects() -> None:
    """Each prompt both ways, one after the other; the ratio is the median over prompts."""
    torch.set_num_threads(1)
    config = ModelConfig(name="demo")
    model, chat = load_model(config), load_chat(config)
    layout = inspect_model(model)
    requests = language.requests(True)[-12:]
    trials = [
        Trial(
            chat.prompt(language.word_reversed(request)),
            [*chat.answer(language.REFUSAL)[1], chat.end],
            [*chat.answer(request.answer)[1], chat.end][:16],
        )
        for request in requests
    ]
    started = time.perf_counter()
    way = way_of(model, trials, layout)
    tried = time.perf_counter() - started
    pairs = []
    for trial in trials:
        started = time.perf_counter()
        found = measured_effects(model, trial, layout.experts(), layout, way)
        between = time.perf_counter()
        alone = one_by_one(model, trial)
        pairs.append((between - started, time.perf_counter() - between))
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)
    ours, single = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    ratio = statistics.median(single / ours for ours, single in pairs)
    print(
        f"effects: {len(layout.experts())} experts of a prompt in {ours:.0f} ms, a forward pass for each in "
        f"{single:.0f} ms: {ratio:.1f} times faster (goal at least 5); choosing {way} took {tried * 1000:.0f} ms once"
    )


def one_by_one(model: PreTrainedModel, trial: Trial) -> torch.Tensor:
    """Each expert's weights zeroed by hand, and a forward pass."""
    layout = inspect_model(model)
    effects = torch.zeros(layout.shape)
    base = float(margins(model, [trial])[0])
    for position, layer in enumerate(layout.layers):
        written = next(model.get_parameter(name) for name in layer.parameters if name.endswith("down_proj"))
        for expert in range(layer.num_experts):
            kept = written[expert].clone()
            written[expert] = 0
            effects[position, expert] = float(margins(model, [trial])[0]) - base
            written[expert] = kept
    return effects


def actors() -> None:
    """A job of half a minute and more: beside short items, what handing them out costs would stand out."""
    speeds = []
    for replicas in (1, 2):
        folder = tempfile.mkdtemp()
        write_batches(RunDir(folder), PROMPTS)
        config = load_config("configs/demo.yaml", [f"run_dir={folder}", f"gradients.replicas={replicas}"])
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
