"""On one GPU: the gradients of all experts against transformers' forward and backward pass that keeps them.
OLMoE-1B-7B shape, random weights.

    python benchmarks/gpu/gradients.py

16 equal rows of 256 tokens, half of each an answer; then batches of 16 rows of real length, prompts of 375 to 440
tokens with answers of 17 to 400, another batch each time, which transformers pads to the longest, and which are packed
here as in `gradients`. transformers, too, computes logits at answers alone. Times are medians.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig

from moe_safety.models import inspect_model
from moe_safety.models.experts import gradient_magnitudes, use_our_experts
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.text.answer_losses import Rows, answer_losses, make_rows
from moe_safety.models.text.packed_attention import packing

ROWS, BATCHES = 16, 8
PROMPT, ANSWER = (375, 440), (17, 400)


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(OlmoeConfig(intermediate_size=1024), dtype=torch.bfloat16).eval()


def rows(chance: random.Random, prompt: tuple[int, int], answer: tuple[int, int]) -> tuple[Rows, Rows]:
    """Padded, and packed."""

    def texts(sizes: tuple[int, int]) -> list[list[int]]:
        return [[chance.randrange(50000) for _ in range(chance.randint(*sizes))] for _ in range(ROWS)]

    prompts, answers = texts(prompt), texts(answer)
    return make_rows(prompts, answers, "cuda"), make_rows(prompts, answers, "cuda", packed=True)


def measured(run: Callable[[Rows], object], given: Rows) -> tuple[float, float]:
    """Milliseconds, and what it took beyond what was there."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(given)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end), torch.cuda.max_memory_allocated() - before


def main() -> None:
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    untouched, model = build(), fuse(use_our_experts(build()))
    layout = inspect_model(model)
    untouched.requires_grad_(False)
    for layer in layout.layers:
        for name in layer.parameters:
            untouched.get_parameter(name).requires_grad_()

    def stock(given: Rows) -> None:
        torch.backends.cuda.enable_cudnn_sdp(True)
        answer_losses(untouched, given)[0].mean().backward()
        for parameter in untouched.parameters():
            parameter.grad = None
        torch.backends.cuda.enable_cudnn_sdp(False)

    def ours(given: Rows) -> None:
        with packing(model) as packed:
            assert packed
            gradient_magnitudes(model, [given], layout=layout)

    chance = random.Random(0)
    equal = rows(chance, (128, 128), (128, 128))
    real = [rows(chance, PROMPT, ANSWER) for _ in range(BATCHES)]
    tokens = sum(one.input_ids.numel() for _, one in real) / sum(each.input_ids.numel() for each, _ in real)
    for title, batches in (("equal", [equal] * (3 + BATCHES)), (f"real, {tokens:.0%} of places filled", real)):
        found = {run: [measured(run, each[n]) for each in batches] for n, run in enumerate((stock, ours))}
        kept = {run: figures[3:] if title == "equal" else figures for run, figures in found.items()}
        time, peak = ({run: statistics.median(f[n] for f in figures) for run, figures in kept.items()} for n in (0, 1))
        print(
            f"{title}: transformers {time[stock]:.1f} ms and {peak[stock] / 1e9:.1f} GB beyond the weights, "
            f"ours {time[ours]:.1f} ms ({time[ours] / time[stock]:.2f}) and {peak[ours] / 1e9:.1f} GB "
            f"({peak[ours] / peak[stock]:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
