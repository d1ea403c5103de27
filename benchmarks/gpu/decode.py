"""On one GPU: how fast prompts are answered by slots, and whether an answer is the same alone and in company.

    python benchmarks/gpu/decode.py [--profile] [--shape olmoe|qwen3]

Random weights of the real shape, bfloat16; prompts of 128 tokens, 128 new ones; nobody ends early. Shares are of the
card's floor, in which weights, keys and values are read once a step and products run at their measured ceiling.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedModel, Qwen3MoeConfig

from moe_safety.models.experts import use_our_experts
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.slots.answering import Answering
from moe_safety.models.slots.pages import PAGE
from moe_safety.models.slots.passes import Passes, Segment
from moe_safety.models.slots.trial import opened
from moe_safety.models.text import Answer, Limits
from moe_safety.models.text.spoken import Rules

LENGTH, NEW, SLOTS, CHUNK = 128, 128, 256, 2048
FLOORS = {"olmoe": (34_000, 47_000), "qwen3": (10_700, 14_800)}
"""New tokens a second on an H100 and an H200, prefill included."""
SHAPES = {
    "olmoe": OlmoeConfig(intermediate_size=1024),
    "qwen3": Qwen3MoeConfig(
        hidden_size=2048,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        vocab_size=151936,
    ),
}


class Endless(Rules):
    """Answers that go on until their limit."""

    def __init__(self) -> None:
        self.limits, self.thinks, self.ends, self.final, self.most = Limits(NEW), False, [], [], NEW


def build(shape: str) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(SHAPES[shape], dtype=torch.bfloat16)
    return fuse(use_our_experts(model)).eval()


def seconds(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.monotonic()
    run()
    torch.cuda.synchronize()
    return time.monotonic() - start


def busy(passes: Passes, said: int) -> None:
    """Every slot in the middle of an answer of its own."""
    each = (LENGTH + NEW) // PAGE
    pages = torch.arange(1, 1 + passes.slots * each, dtype=torch.int32, device="cuda")
    passes.table[:, :each] = pages.view(passes.slots, each)
    row = torch.tensor([LENGTH + said, said, 1 << 30, 0, 7, -1], device="cuda")
    passes.state.copy_(row[:, None].expand(-1, passes.slots))
    passes.state[3] = torch.arange(passes.slots, device="cuda")
    passes.temperatures.fill_(1.0)


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    run()
    return seconds(lambda: [run() for _ in range(repeats)]) / repeats * 1000


@torch.inference_mode()
def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--profile", action="store_true")
    options.add_argument("--shape", choices=list(SHAPES), default="olmoe")
    given = options.parse_args()
    name = torch.cuda.get_device_name()
    floor = FLOORS[given.shape]["H200" in name]
    print(f"{name}, {given.shape}, floor {floor:,} new tokens/s", flush=True)
    model = build(given.shape)
    passes: list[Passes] = []
    print(f"tried and made graphs in {seconds(lambda: passes.append(opened(model, SLOTS, CHUNK))):.1f} s", flush=True)
    report(passes[0], floor, given.profile)
    if given.shape == "olmoe":
        exactness(model, passes[0])


def exactness(model: PreTrainedModel, passes: Passes) -> None:
    """How far logits lie from the same weights in float32, by slots and by the model's own forward pass."""
    chance = random.Random(1)
    prompts = [[chance.randrange(50_000) for _ in range(LENGTH)] for _ in range(8)]
    answering = Answering(passes, Endless())
    said = [answer.tokens for answer in answering(prompts, [0.0] * len(prompts), [0] * len(prompts))]
    found = passes.logits[: len(prompts)].float()
    whole = torch.tensor([prompt + answer for prompt, answer in zip(prompts, said, strict=True)], device="cuda")
    own = model(input_ids=whole, use_cache=False).logits[:, -1].float()
    exact = copy.deepcopy(model).float()
    right = torch.cat([exact(input_ids=row[None], use_cache=False).logits[:, -1] for row in whole])
    for name, logits in (("slots", found), ("the model's own pass", own)):
        errors = ((logits - right).norm(dim=-1) / right.norm(dim=-1)).tolist()
        print(f"logits of {name} from float32: {max(errors):.1e} at most, {sum(errors) / len(errors):.1e} in the mean")


def report(passes: Passes, floor: int, profile: bool) -> None:
    answering = Answering(passes, Endless())
    chance = random.Random(0)
    prompts = [[chance.randrange(50_000) for _ in range(LENGTH)] for _ in range(SLOTS)]
    seeds = list(range(SLOTS))
    found: dict[tuple[int, float], list[Answer]] = {}
    for count in (256, 64):
        for heat in (0.0, 1.0):

            def answer(count: int = count, heat: float = heat) -> None:
                found[count, heat] = answering(prompts[:count], [heat] * count, seeds[:count])

            rate = count * NEW / min(seconds(answer) for _ in range(2))
            print(f"{count} prompts, T={heat}: {rate:,.0f} new tokens/s, {rate / floor:.2f} of the floor", flush=True)
    for heat in (0.0, 1.0):
        answers = found[SLOTS, heat]
        for place in (0, 100, 255):
            (alone,) = answering([prompts[place]], [heat], [seeds[place]])
            print(f"T={heat}, prompt {place} alone as among 255 others: {alone == answers[place]}", flush=True)
    same = [prompts[0] if place % 50 == 5 else prompt for place, prompt in enumerate(prompts)]
    answers = answering(same, [1.0] * SLOTS, [3] * SLOTS)
    bits = passes.logits[5:SLOTS:50]
    equal = all(answer == answers[5] for answer in answers[5::50]) and bool((bits == bits[0]).all())
    slot, bits = answering.free[-1], bits[0].clone()
    (alone,) = answering([prompts[0]], [1.0], [3])
    equal = equal and alone == answers[5] and bool((passes.logits[slot] == bits).all())
    print(f"the same prompt in six slots of 256 and alone, logits to the bit: {equal}", flush=True)
    busy(passes, 64)
    full = [Segment(slot, 0, prompts[slot], True) for slot in range(CHUNK // LENGTH)]
    print(f"a pass of {CHUNK} prompt tokens {milliseconds(lambda: passes.take_up(full), 5):.2f} ms")
    print(f"a step of {SLOTS} slots, {LENGTH + 64} tokens each, {milliseconds(passes.say, 20):.2f} ms", flush=True)
    if profile:
        busy(passes, 64)
        for each in (passes.say, lambda: passes.take_up(full)):
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                each()
                torch.cuda.synchronize()
            print(profiler.key_averages().table(sort_by="cuda_time_total", row_limit=28, max_name_column_width=90))


if __name__ == "__main__":
    main()
