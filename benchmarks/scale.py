"""What a run will take on many cards, from what was measured on one. Run: python -m benchmarks.scale [--prompts N].

A stage takes the reading of weights, the arithmetic of its tokens (benchmarks/job/floors.py) by the share of it that
was reached, and what its parts cost beside. docs/scale.md tells where each number was measured.
"""

from __future__ import annotations

import argparse
import math
import tempfile

from transformers import DeepseekV3Config, PretrainedConfig, Qwen3MoeConfig

from benchmarks.job.floors import Floors, Machine, Shape
from benchmarks.job.inputs import QWEN3, shape_of
from moe_safety.batches.stretches import ROWS
from moe_safety.models.inspection.inspect import inspect

H200 = Machine(dense=750e12, grouped=670e12, memory=4.3e12)
CARD, HOST = 141e9, 8
"""Bytes of a card, and cards of a host."""
PROMPT, ANSWER = 210, 128
"""Tokens: attacks and plain goals half and half."""
START = 26.0
"""Seconds until a command's first replica could read weights."""
READING = 4.3e9
"""Bytes a second from the page cache into a card."""
SHARES = {"respond": 0.52, "capture": 0.77, "gradients": 0.46, "train": 0.50}
"""Of the floor, as far as it was reached on one card."""
REDUCTION = 1.0e-4
"""Seconds of a core for a prompt of 1,024 experts, the tables included."""
ITEM, REQUESTS, READ_AGAIN = 0.05, 13, 8
"""Seconds of an item beside the card's work, and its requests to a store: one for its rows, eight for its part, the
part's hash and its marker, two for the marker's notes, two for the manifest; and eight for each part in `identify`
(tests/benchmarks/test_requests.py counts them)."""


def shapes() -> dict[str, PretrainedConfig]:
    larger = {"hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "moe_intermediate_size": 1536}
    return {
        "OLMoE-1B-7B": shape_of("olmoe"),
        "Qwen3-30B-A3B": shape_of("qwen3"),
        "Qwen3-235B-A22B": Qwen3MoeConfig(**QWEN3 | larger),
        "DeepSeek-V3": DeepseekV3Config(),
    }


def items(prompts: int) -> int:
    """Of `capture`, as routing/plan.py has them."""
    stretches = math.ceil(prompts / ROWS)
    return stretches * max(4, 256 // stretches)


def told(name: str, config: PretrainedConfig, cards: int, prompts: int) -> str:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        shape, experts = Shape.of(folder), len(inspect(folder).layout.experts())
    floors = Floors(shape, H200)
    wide = math.ceil(1.06 * shape.weights / CARD)
    begin = f"{name:<17}{cards:>5}{shape.weights / 1e9:>8,.0f}"
    if wide > HOST:
        return f"{begin}   a replica would take {wide} cards, and stands on one host of {HOST}"
    # Of the cards of a replica one is at work at a time.
    replicas = cards // wide
    tokens, beside = prompts * (PROMPT + ANSWER), ITEM * items(prompts) / replicas
    answers = floors.forward(prompts * PROMPT) + floors.decode(prompts * ANSWER, PROMPT + ANSWER / 2)
    arithmetic = {
        "respond": answers,
        "capture": floors.forward(tokens),
        "gradients": floors.backward(tokens, "experts"),
        "train": floors.backward(tokens, "few"),
    }
    minutes = [(each / SHARES[stage] / replicas + beside) / 60 for stage, each in arithmetic.items()]
    minutes.append(REDUCTION * prompts * experts / 1024 / 2 / 60)
    cells = "".join(f"{each:>11,.1f}" for each in minutes)
    return (
        f"{begin}{wide:>6}{START + shape.weights / READING:>9.0f}{cells}{(REQUESTS + READ_AGAIN) * items(prompts):>10,}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--prompts", type=int, default=2_000_000)
    options.add_argument("--cards", type=int, nargs="+", default=[8, 64])
    given = options.parse_args()
    heads = "".join(f"{name:>11}" for name in (*SHARES, "identify"))
    print(f"{given.prompts:,} prompts, H200; minutes, but for the start's seconds; training: an epoch, weights whole")
    print(f"{'model':<17}{'cards':>5}{'GB':>8}{'wide':>6}{'start':>9}{heads}{'requests':>10}")
    for name, config in shapes().items():
        for cards in given.cards:
            print(told(name, config, cards, given.prompts), flush=True)


if __name__ == "__main__":
    main()
