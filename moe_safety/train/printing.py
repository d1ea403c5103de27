"""What `train` says before it starts and when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from moe_safety.arms import SIZED, Arm, names_of, parameters_of, size_of
from moe_safety.batches import nothing_harmless
from moe_safety.config import Config

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from moe_safety.identify import Pair, Selection
    from moe_safety.models import MoELayout


def print_start(
    arm: Arm, config: Config, batches: pa.Table, selection: Selection | None, trainable: int, total: int
) -> None:
    """Prints what will be trained, in the earlier scripts' words, and how many parameters of how many that is."""
    if arm.trains_all:
        print("BASELINE EXPERIMENT: Training ALL model parameters")
    elif selection is None:
        print(f"Training {', '.join(sorted(arm.parts))}")
    else:
        print("SELECTIVE EXPERT training")
    labels = Counter(batches["label"].to_pylist())
    sizes = Counter(batches["batch_idx"].to_pylist())
    settings = config.batches
    expected = settings.batch_size + settings.benign_per_batch + settings.control_per_batch
    found = sorted(set(sizes.values()))
    print(f"  {len(sizes)} batches x {'/'.join(map(str, found))} examples, {len(batches)} in all")
    print(
        f"  samples per batch: {'/'.join(map(str, found))} found, {expected} expected "
        f"({labels['safe'] // len(sizes)} safe, {labels['unsafe'] // len(sizes)} unsafe)"
    )
    print(f"  batch size {settings.batch_size}, safe ratio {settings.safe_ratio}")
    if selection is not None:
        counts = [len(experts) for experts in selection.per_batch.values()]
        print(
            f"  experts per batch: min {min(counts)}, max {max(counts)}, mean {sum(counts) / len(counts):.1f}; "
            f"union {len(selection.union())}"
        )
    print(f"  trainable parameters: {trainable:,} of {total:,} ({trainable / total:.2%})")
    if warning := nothing_harmless(labels, frozenset(config.train.labels)):
        print(f"  warning: {warning}")


def size_lines(arm: Arm, model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> Iterator[str]:
    """Of a part that is as large as the selection, how large both are."""
    for part in sorted(arm.parts & SIZED.keys()):
        own, all_of_it = (
            parameters_of(model, names_of([each], model, layout, experts)) for each in (part, SIZED[part])
        )
        wanted = size_of(layout, experts)
        end = f"; that is all {SIZED[part]} that there is" if own == all_of_it < wanted else ""
        yield f"  {own:,} parameters beside {wanted:,} in the selection's {len(experts)} experts{end}"


def end_lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    """The lines that sum a training up."""
    summary = manifest["summary"]
    yield (
        f"train {summary['arm']}: {summary['steps']} steps, last loss {summary['last_loss']:.4f}, "
        f"{summary['trainable_ratio']:.2%} of the parameters, {summary['seconds_per_step']:.2f} s a step"
    )
    if summary["final_model"] is None:
        yield f"  left as {summary['delta']}; `moe-safety delta apply` makes a checkpoint of it and the base"


def print_rounding(found: Mapping[str, Any]) -> None:
    """One line of what came through, and a warning where most of it could not."""
    print(
        f"  routers: {found['changed']} of {found['elements']} elements changed, {found['changed_masters']} in their "
        f"float32 masters, from which the saved ones differ by at most {found['largest_difference']:.1e}"
    )
    if 2 * found["stuck"] > found["elements"]:
        print(
            f"  warning: the router phase's learning rates sum to {found['summed_rate']:.1e}, less than half a last "
            f"bit of {found['stuck'] / found['elements']:.0%} of the routers' elements in {found['dtype']}, which "
            "therefore mostly stay as they are; raise train.router.lr, or set model.dtype: float32"
        )
