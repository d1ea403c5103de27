"""On one GPU: every family's selective step, as it runs there, against full autograd, and its freeze bit by bit.

    python -m benchmarks.gpu.families

Tiny random models of all families that the installed transformers can build, in float32 and bfloat16, with all that
makes training on a GPU faster. Gradients of the chosen experts are compared with full autograd's in float32 on the same
weights; an error is the difference's norm over theirs. In bfloat16 full autograd is not exact, either, since a token
between two experts may go to the other: a step passes whose error, the median over several prompts, is not much larger.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from unittest.mock import patch

import torch
from transformers import PreTrainedModel

from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import selective_experts, use_our_experts
from moe_safety.models.kernels import card
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.text.answer_losses import Rows, answer_losses, make_rows
from moe_safety.train.optimizer import LazyAdamW
from tests.families import FAMILIES, build

EXACT, MUCH, TIMES = 1e-4, 1.5, 7
"""The error of sums in another order; how many times full autograd's an error may be in bfloat16; of how many prompts
that is the median."""
Grads = dict[str, torch.Tensor]


def built(name: str, dtype: torch.dtype) -> PreTrainedModel:
    return use_our_experts(build(name).to("cuda", dtype)).eval()


def rows(seed: int) -> Rows:
    chance = torch.Generator().manual_seed(seed)
    prompts, answers = (
        [torch.randint(3, 90, (n,), generator=chance).tolist() for n in sizes]
        for sizes in ((6, 13, 4, 9), (12, 5, 9, 7))
    )
    return make_rows(prompts, answers, "cuda")


def chosen(layout: MoELayout) -> list[tuple[int, int]]:
    return [(layer.index, expert) for layer in layout.layers for expert in (0, 1, layer.num_experts - 1)]


def whole(model: PreTrainedModel, given: Rows) -> Grads:
    """Of the chosen experts, by full autograd and without any kernel of ours."""
    layout = inspect_model(model)
    with patch.object(card, "kernels", lambda tensor: None):
        answer_losses(model, given)[0].mean().backward()
    found = {}
    for layer in layout.layers:
        mine = [expert for index, expert in chosen(layout) if index == layer.index]
        for parameter in layer.parameters:
            grad = model.get_parameter(parameter).grad
            found[parameter] = torch.zeros_like(model.get_parameter(parameter))[mine] if grad is None else grad[mine]
    return found


def selective(name: str, dtype: torch.dtype, given: Rows) -> tuple[Grads, int, int]:
    """Those of a step as `train` runs it; then what moved in three steps that may not, and how many experts moved."""
    model = fuse(built(name, dtype))
    layout = inspect_model(model)
    experts = chosen(layout)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with ExitStack() as stack:
        part = stack.enter_context(selective_experts(model, experts))
        optimizer = LazyAdamW(part.parameters(), lr=1e-2, weight_decay=0.1)
        grads: Grads = {}
        for mask in (experts, experts[::2], experts[1::2]):
            part.set_active(mask)
            answer_losses(model, given)[0].mean().backward()
            grads = grads or {key: own.grad.clone() for key, own in part.named_parameters() if own.grad is not None}
            optimizer.step()
            optimizer.zero_grad()
    return grads, *changes(before, model.state_dict(), layout, experts)


def changes(before: Grads, after: Grads, layout: MoELayout, experts: list[tuple[int, int]]) -> tuple[int, int]:
    owner = {parameter: layer.index for layer in layout.layers for parameter in layer.parameters}
    illegal, moved = 0, set()
    for name, tensor in after.items():
        differs = tensor != before[name]
        if name not in owner:
            illegal += int(differs.any())
            continue
        places = {(owner[name], row) for row in differs.flatten(1).any(dim=1).nonzero()[:, 0].tolist()}
        illegal += len(places - set(experts))
        moved |= places & set(experts)
    return illegal, len(moved)


def error(found: Grads, wanted: Grads) -> float:
    one, other = (torch.cat([grads[name].double().flatten() for name in wanted]) for grads in (found, wanted))
    return float((one - other).norm() / other.norm().clamp(min=1e-30))


def examined(name: str, dtype: torch.dtype) -> tuple[float, str | None]:
    """The error, and what is wrong."""
    ours, theirs, illegal, moved = [], [], 0, 0
    for given in map(rows, range(1 if dtype == torch.float32 else TIMES)):
        exact = whole(built(name, dtype).float(), given)
        grads, wrong, right = selective(name, dtype, given)
        ours.append(error(grads, exact))
        theirs.append(error(whole(built(name, dtype), given), exact))
        illegal, moved = illegal + wrong, moved + right
    found = statistics.median(ours)
    allowed = EXACT if dtype == torch.float32 else MUCH * statistics.median(theirs)
    bad = illegal or not moved or found > allowed
    return found, f"{illegal} illegal moves, {moved} moved, error {found:.1e}, allowed {allowed:.1e}" if bad else None


def known() -> list[str]:
    """The families that this transformers can build."""
    found = []
    for name in FAMILIES:
        try:
            inspect_model(use_our_experts(build(name)))
        except Exception as problem:  # Each release says it in its own way.
            print(f"   not here: {name} ({type(problem).__name__})")
            continue
        found.append(name)
    return found


def main() -> None:
    print(torch.cuda.get_device_name(), flush=True)
    families = known()
    for dtype in (torch.float32, torch.bfloat16):
        errors, wrong = {}, []
        for name in families:
            try:
                errors[name], complaint = examined(name, dtype)
            except Exception as problem:  # One family shall not hide the others.
                complaint = f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}"
            if complaint:
                wrong.append(f"{name}: {complaint}")
        worst = max(errors, key=errors.__getitem__)
        print(f"{dtype}: {len(families)} families, {len(wrong)} wrong; largest error {errors[worst]:.1e} ({worst})")
        print("".join(f"   {line}\n" for line in wrong), end="", flush=True)


if __name__ == "__main__":
    main()
