"""On one GPU: every kernel against its formula, and what each takes, at the sizes of an OLMoE-1B-7B pass and odd ones.

    python benchmarks/gpu/check.py

Numbers are compared with the formula in float32 on the same arguments: the error is the difference's norm over theirs,
and may be a little more than rounding to the type does. Places and counts must be equal. Times are medians beside those
of the formula as torch runs it, in the model's type. Last, whole passes of two layers of that shape, in bfloat16 with
kernels and without: as close to float32 with them, and counts that are those of the choices made. Beside them the
optimizer's kernel, whose resting elements stay to the bit.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedModel

from moe_safety.models import inspect_model
from moe_safety.models.experts import choices, gradient_magnitudes, run_counting, use_our_experts
from moe_safety.models.kernels import card, formulas, triton_kernels
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.kernels.paged_attention import attend
from moe_safety.models.slots.pages import PAGE, Blocks, attend_plainly
from moe_safety.models.slots.passes import sampled, sampled_plainly
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.train.optimizer import LazyAdamW, lazy_update

ALLOWED = {torch.float32: 2e-6, torch.bfloat16: 3e-3, torch.float16: 4e-4}
MUCH = 1.2
"""How many times as far off passes may be with kernels as without."""
SIZES = {"pass": (16, 512, 2048, 1024, 64, 8), "odd": (3, 37, 200, 72, 6, 3), "one row": (1, 421, 2048, 1024, 64, 8)}
"""Rows, tokens of each, widths of a token and of an expert's middle, experts, experts of a token."""
Arguments = tuple[Any, ...]


def cases(size: str, dtype: torch.dtype) -> Iterator[tuple[str, Arguments, int]]:
    """Each kernel's name, arguments, and how many of its results are numbers, to be close; the others are equal."""
    rows, length, hidden, middle, experts, top_k = SIZES[size]
    tokens, heads, width = rows * length, 16 if hidden % 16 == 0 else 5, hidden // (16 if hidden % 16 == 0 else 5)
    chance = torch.Generator("cuda").manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance, device="cuda").to(dtype)

    index = torch.rand(tokens, experts, generator=chance, device="cuda").topk(top_k).indices
    back = formulas.dispatch(index, experts)[1]
    places = tokens * top_k
    yield "gate", (numbers(places, 2 * middle), numbers(places, 1)), 1
    yield "gate_backward", (numbers(places, 2 * middle), numbers(places, 1), numbers(places, middle)), 2
    yield "summed", (numbers(places, hidden), back, top_k), 1
    yield "spread", (numbers(tokens, hidden), back, top_k), 0
    q, k = (numbers(rows, length, of, width).transpose(1, 2) for of in (heads, max(1, heads // 4)))
    for name, copies in (("turn", rows), ("turn_back", 1)):
        yield name, (q, k, numbers(copies, length, width), numbers(copies, length, width)), 2
    yield "magnitudes", (numbers(experts * hidden, middle),), 2
    yield "dispatch", (index, experts), 0
    # Some choices of no expert.
    yield "dispatch", (torch.where(index % 5 == 4, experts, index), experts), 0


def results(found: Any) -> tuple[torch.Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def finer(given: Arguments) -> Arguments:
    return tuple(one.float() if isinstance(one, torch.Tensor) and one.is_floating_point() else one for one in given)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def milliseconds(run: Callable[..., object], *given: Any) -> float:
    times = []
    for _ in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run(*given)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])


def examine(size: str, dtype: torch.dtype) -> list[str]:
    """What is wrong."""
    wrong = []
    for name, given, numbers in cases(size, dtype):
        kernel, formula = (getattr(module, name) for module in (triton_kernels, formulas))
        try:
            found, exact = results(kernel(*given)), results(formula(*finer(given)))
        except Exception as problem:  # One kernel shall not hide the others.
            wrong.append(f"{name}, {size}, {dtype}: {type(problem).__name__}: {str(problem)[:600]}")
            continue
        errors = [error(one, other) for one, other in zip(found[:numbers], exact[:numbers], strict=True)]
        same = all(torch.equal(one, other.to(one.dtype)) for one, other in zip(found, exact, strict=True))
        again = all(map(torch.equal, found, results(kernel(*given))))
        bad = not again or (max(errors) > ALLOWED[dtype] if numbers else not same)
        if bad:
            wrong.append(f"{name}, {size}, {dtype}: errors {errors}, equal {same}, the same again {again}")
        if size != "odd" and dtype == torch.bfloat16:
            mine, plain = milliseconds(kernel, *given), milliseconds(formula, *given)
            print(f"  {name:14} {size:8} {mine:7.3f} ms, written out {plain:7.3f} ms, errors {errors}", flush=True)
    return wrong + counted(size, dtype)


def counted(size: str, dtype: torch.dtype) -> list[str]:
    rows, length, _, _, experts, top_k = SIZES[size]
    chance = torch.Generator("cuda").manual_seed(1)
    scores = torch.rand(rows * length, experts + 1, generator=chance, device="cuda")
    weights, index = scores.topk(top_k)
    weights, wanted = weights.to(dtype), torch.rand(rows, length, generator=chance, device="cuda") < 0.7
    found = {}
    for module in (triton_kernels, formulas):
        both = [torch.zeros(rows * (experts + 1), dtype=torch.int64, device="cuda") for _ in "12"]
        module.count(index, weights, wanted, *both)
        found[module] = both
    same = all(map(torch.equal, *found.values()))
    if size != "odd" and dtype == torch.bfloat16:
        mine, plain = (milliseconds(m.count, index, weights, wanted, *found[m]) for m in found)
        print(f"  {'count':14} {size:8} {mine:7.3f} ms, written out {plain:7.3f} ms", flush=True)
    return [] if same else [f"count, {size}, {dtype}: not equal"]


def build(dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device("cuda"):
        shape = OlmoeConfig(intermediate_size=1024, num_hidden_layers=2, vocab_size=1000)
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    return fuse(use_our_experts(model.to(dtype))).eval()


def passes() -> list[str]:
    """What is wrong with whole passes."""
    chance = random.Random(0)
    texts = [[chance.randrange(1000) for _ in range(200)] for _ in range(32)]
    given = make_rows(texts[:16], texts[16:], "cuda")
    found: dict[str, list[torch.Tensor]] = {}
    for name, dtype in (("exact", torch.float32), ("plain", torch.bfloat16), ("kernels", torch.bfloat16)):
        model = build(dtype)
        layout = inspect_model(model)
        with ExitStack() as stack:
            if name != "kernels":
                stack.enter_context(patch.object(card, "kernels", lambda tensor: None))
            with torch.inference_mode():
                losses, _ = answer_losses(model, given)
                with choices(model, layout) as chosen:
                    counted = run_counting(model, given.input_ids, None, given.real, layout).counts()
            found[name] = [losses, gradient_magnitudes(model, [given], layout=layout).absolute]
    again = [
        torch.nn.functional.one_hot(index, layout.max_experts).view(16, -1, layout.max_experts).sum(dim=1)
        for index in chosen
    ]
    wrong = [] if torch.equal(counted, torch.stack(again, dim=1)) else ["counts are not those of the choices"]
    for what, exact, plain, kernels in zip(("losses", "gradients"), *found.values(), strict=True):
        errors = error(kernels, exact), error(plain, exact)
        print(f"  {what} in bfloat16 are off by {errors[0]:.1e}, without kernels by {errors[1]:.1e}")
        if errors[0] > MUCH * errors[1]:
            wrong.append(f"{what} are off by {errors}")
    return wrong


def slotted() -> list[str]:
    """What is wrong with the kernels of slots: attention over pages, and sampling."""
    chance, wrong = torch.Generator("cuda").manual_seed(0), []

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance, device="cuda").bfloat16()

    each = torch.arange(8, device="cuda")
    for heads, groups, width in ((16, 16, 128), (32, 4, 128), (6, 2, 24)):
        for size in (1, 32):
            keys, values, query = *numbers(2, 40 * PAGE, groups, width), numbers(heads, 8 * size, width)
            table = 1 + torch.randperm(39, generator=chance, device="cuda")[:32].view(8, 4).int()
            blocks = Blocks(size, each, each * 20 // size * size, torch.full_like(each, size), table)
            told = blocks.slot, blocks.first, blocks.count, blocks.table
            found = attend(query, keys, values, told, size, PAGE, 0.1)
            off = error(found, attend_plainly(query.float(), keys.float(), values.float(), blocks, 0.1))
            print(f"  attention over pages, {heads} heads on {groups}, {size} queries: off by {off:.1e}")
            if off > ALLOWED[torch.bfloat16]:
                wrong.append(f"attention over pages, {heads} heads on {groups}, {size} queries: {off}")
    words = [torch.randint(1 << 32, (64,), generator=chance, device="cuda") for _ in range(2)]
    given = numbers(64, 50_304), each.repeat(8) * 0.4, *words, each.repeat(8)
    if not torch.equal(sampled(*given), sampled_plainly(*given)):
        wrong.append("sampling: other tokens")
    return wrong


def updated(dtype: torch.dtype) -> list[str]:
    """The optimizer's kernel after six updates in which other elements move, against torch in float64."""
    chance = torch.Generator("cuda").manual_seed(0)
    start = torch.randn(1_000_003, generator=chance, device="cuda").to(dtype)
    parameter, wide = torch.nn.Parameter(start.clone()), start.double()
    optimizer = LazyAdamW([parameter], lr=1e-2, weight_decay=0.1)
    moments = [torch.zeros_like(wide), torch.zeros_like(wide), torch.zeros_like(wide, dtype=torch.int32)]
    for _ in range(6):
        grad = torch.randn(len(start), generator=chance, device="cuda").to(dtype)
        grad[torch.rand(len(start), generator=chance, device="cuda") < 0.6] = 0
        grad[: len(start) // 4] = 0
        parameter.grad = grad
        optimizer.step()
        lazy_update(grad, wide, *moments, 1e-2, (0.9, 0.999), 1e-8, 0.1)
    state = optimizer.state[parameter]
    off = error(state.get("master", parameter).detach() - start, wide - start)
    rests = moments[2] == 0
    print(f"  update in {dtype}: what moved is off by {off:.1e}, {int(rests.sum()):,} elements rested", flush=True)
    wrong = ["update: elements that rest moved"] if not torch.equal(parameter[rests], start[rests]) else []
    wrong += ["update: other elements counted"] if not torch.equal(state["steps"], moments[2]) else []
    return wrong + ([f"update in {dtype}: off by {off:.1e}"] if off > 1e-5 else [])


def main() -> None:
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    wrong = [line for size in SIZES for dtype in ALLOWED for line in examine(size, dtype)]
    wrong += [line for dtype in (torch.bfloat16, torch.float32) for line in updated(dtype)]
    wrong += slotted() + passes()
    print("".join(f"WRONG {line}\n" for line in wrong) or "every kernel computes what its formula says")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
