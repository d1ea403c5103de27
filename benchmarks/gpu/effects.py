"""On one GPU: what measuring effects costs, sharing layers and prompts against whole forward passes. OLMoE-1B-7B shape,
random weights.

    python benchmarks/gpu/effects.py

Prompts of 375 to 440 tokens, as real attacks in a chat template have, both answers' openings of 16; the 128 experts of
1,024 that the first-order estimate takes for the strongest are held back on each, as by default.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig

from moe_safety.models import inspect_model
from moe_safety.models.experts import Trial, Way, Whole, use_our_experts
from moe_safety.models.experts.effects import MAX_TOKENS, first_order_effects, measured_effects, way_of
from moe_safety.models.kernels.fuse import fuse

PROMPT, OPENING, CANDIDATES = (375, 440), 16, 128
TRIALS, JOB, TOGETHER = 8, 128, 4
"""Measured here, and in a job of 64 unsafe and 64 control prompts; in one pass of the first-order estimate."""


def main() -> None:
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(OlmoeConfig(intermediate_size=1024), dtype=torch.bfloat16)
    fuse(use_our_experts(model)).eval()
    layout = inspect_model(model)
    chooser = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [chooser.randrange(50000) for _ in range(count)]

    def trial() -> Trial:
        return Trial(tokens(chooser.randint(*PROMPT)), tokens(OPENING), tokens(OPENING))

    trials = [trial() for _ in range(TRIALS)]
    started = time.perf_counter()
    shared = way_of(model, trials, layout)
    print(f"{torch.cuda.get_device_name()}: {shared}, found in {time.perf_counter() - started:.1f} s", flush=True)
    first_order_effects(model, [trial() for _ in range(TOGETHER)], layout)

    def foresee() -> torch.Tensor:
        groups = [trials[start : start + TOGETHER] for start in range(0, TRIALS, TOGETHER)]
        return torch.cat([first_order_effects(model, group, layout) for group in groups])

    seconds, foreseen = timed(foresee)
    print(f"first-order estimate of every expert: {seconds * 1000:.1f} ms a prompt", flush=True)
    strongest = foreseen.mean(dim=0).abs().flatten().topk(CANDIDATES).indices.sort().values.tolist()
    experts = [layout.experts()[place] for place in strongest]
    print("candidates in each layer:", [sum(layer == index for index, _ in experts) for layer in range(16)])

    def measure(way: Way, max_tokens: int = MAX_TOKENS) -> tuple[float, torch.Tensor]:
        """Seconds for each trial, and the effects."""
        measured_effects(model, trial(), experts, layout, way, max_tokens)
        seconds, found = timed(
            lambda: torch.stack([measured_effects(model, one, experts, layout, way, max_tokens) for one in trials])
        )
        return seconds, found[~found.isnan()]

    found = {"shared": measure(shared), "whole": measure(Whole()), "grouped": measure(Whole(), MAX_TOKENS // 4)}
    for name in ("shared", "whole"):
        seconds, _ = found[name]
        replaced = 2 * trials[0].length * CANDIDATES / seconds
        print(
            f"{name:7} {seconds * 1000:8.1f} ms a prompt, {CANDIDATES / seconds:8,.0f} effects/s, "
            f"{replaced:10,.0f} tokens/s of whole forward passes replaced, {JOB * seconds:.1f} s a job",
            flush=True,
        )
    print(f"sharing is {found['whole'][0] / found['shared'][0]:.1f} times faster")
    effects = found["whole"][1]
    print(f"effects in bfloat16 vary by {effects.std():.4f}; from those of whole forward passes differ")
    for name, others in (("shared ones", found["shared"][1]), ("whole ones, grouped otherwise,", found["grouped"][1])):
        both = torch.corrcoef(torch.stack([effects, others]))[0, 1]
        print(f"  {name} by {(effects - others).std():.4f}, correlation {both:.3f}")
    print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


def timed(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds for each trial, and what was found."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    found = run()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / TRIALS, found


if __name__ == "__main__":
    main()
