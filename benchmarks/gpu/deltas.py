"""What stands between an arm's last step and its evaluation, at a real model's size; on a GPU where there is one.

    python benchmarks/gpu/deltas.py [--layers 16] [--experts 50] [--whole] [--store URI] [--folder FOLDER]

The model has the shape of OLMoE-1B-7B and random weights in bfloat16 (13.8 GB). Some of its experts are changed as
training would change them (12.6 MB each: 240 make a delta of 3 GB); then the delta is written, verified and, on a GPU,
swapped in and out. With `--whole` the tuned model is also written as a checkpoint, verified as that, and its delta is
extracted, applied and reverted; with `--store` once more on an object store. Files go to a temporary folder, or one
below FOLDER.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedModel

from moe_safety.checkpoints import apply_delta, extract_delta, revert_delta, verify, write_trained
from moe_safety.config import ModelConfig
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.io import flips_of, kept_model, model_fingerprint
from moe_safety.models.io.save import save_model
from moe_safety.models.stored import contents_of, open_checkpoint
from moe_safety.rundir import RunDir, fetched, fetched_file

ON_CARD = torch.cuda.is_available()
DEVICE = "cuda" if ON_CARD else "cpu"


@contextmanager
def timed(what: str, size: int = 0) -> Iterator[None]:
    synchronise()
    began, computed = time.perf_counter(), time.process_time()
    yield
    synchronise()
    took, computed = time.perf_counter() - began, time.process_time() - computed
    speed = f"  {size / took / 1e9:5.1f} GB/s" if size else ""
    print(f"{what:44} {took:7.2f} s, {computed:7.2f} of processors{speed}", flush=True)


def synchronise() -> None:
    if ON_CARD:
        torch.cuda.synchronize()


def build(layers: int) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        shape = OlmoeConfig(intermediate_size=1024, num_hidden_layers=layers)
        return AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16).eval()


def change(model: PreTrainedModel, layout: MoELayout, experts: list[tuple[int, int]]) -> list[str]:
    """A little of every value; returns the parameters' names."""
    names = []
    for layer in layout.layers:
        own = torch.tensor([expert for index, expert in experts if index == layer.index], device=DEVICE)
        for name in layer.parameters if len(own) else ():
            rows = model.get_parameter(name).data
            rows[own] *= 1.01
            names.append(name)
    return names


def on_store(store: str, model: PreTrainedModel, base: Path, size: int) -> None:
    """The same with the tuned model, the delta and all that is made of them in the store."""
    run = RunDir(store)
    tuned, delta, applied, reverted = map(run.uri_of, ("tuned", "delta.safetensors", "applied", "reverted"))
    kept = base.parent / "cache"
    with timed("writing the tuned model to the store", size):
        digests = save_model(model, tuned)
    with timed("its digests, read there", size):
        same = all(run.digest(f"tuned/{name}") == digest for name, digest in digests.items())
    print(f"{'':44} {'what was written' if same else 'NOT WHAT WAS WRITTEN'}", flush=True)
    with timed("the same, remembered"):
        run.digests(f"tuned/{name}" for name in digests)
    with timed("delta extract from the store to the store"):
        extract_delta(base, fetched(tuned, kept), delta)
    with timed("delta apply to the store", size):
        apply_delta(base, fetched_file(delta, kept), applied)
    with timed("delta revert from the store to the store", size):
        revert_delta(fetched(applied, kept), fetched_file(delta, kept), reverted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--experts", type=int, default=50)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--store", help="a folder of an object store, which is not there yet")
    parser.add_argument("--folder", help="on the disk that is to be measured")
    args = parser.parse_args()
    name = torch.cuda.get_device_name() if ON_CARD else f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}"
    print(f"{name}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        base, delta = folder / "base", folder / "delta.safetensors"
        base.mkdir()
        given = ModelConfig(name=str(base))
        model = build(args.layers)
        layout = inspect_model(model)
        size = sum(parameter.nbytes for parameter in model.parameters())
        with timed("writing the base, hashed on the way", size):
            save_model(model, base)
        with timed("its fingerprint"):
            model_fingerprint(given)
        with timed("hashes of its tensors, once a base", size):
            contents_of(open_checkpoint(base))
        with timed("the same, remembered"):
            contents_of(open_checkpoint(base))
        chosen = sorted(layout.experts(), key=lambda pair: hash(pair))[: args.experts]
        names = change(model, layout, chosen)
        with timed("the delta, from what trained"):
            write_trained(model, given, layout, names, chosen, str(delta))
        print(f"{'':44} {delta.stat().st_size / 1e9:.2f} GB", flush=True)
        with timed("verify BASE DELTA"):
            report = verify(base, delta, chosen)
        print(f"{'':44} {len(report.experts)} experts, {len(report.violations)} violations", flush=True)
        tuned = {name: model.get_parameter(name).data.clone() for name in names} if ON_CARD else {}
        if args.whole:
            out = folder / "tuned"
            out.mkdir()
            with timed("writing the tuned model, hashed on the way", size):
                save_model(model, out)
            with timed("verify BASE TUNED", 2 * size):
                verify(base, out, chosen)
            with timed("delta extract, hashes remembered"):
                extract_delta(base, out, folder / "extracted.safetensors")
            same = delta.read_bytes() == (folder / "extracted.safetensors").read_bytes()
            print(f"{'':44} {'byte for byte the same delta' if same else 'ANOTHER DELTA'}", flush=True)
            with timed("delta apply, base remembered", size):
                apply_delta(base, delta, folder / "applied")
            shutil.rmtree(folder / "applied")
            with timed("delta revert", size):
                revert_delta(out, delta, folder / "reverted")
            shutil.rmtree(folder / "reverted")
            shutil.rmtree(out)
        if args.store:
            on_store(args.store, model, base, size)
        del model
        if not ON_CARD:
            return
        torch.cuda.empty_cache()
        with timed("reading the base into the card", size):
            loaded = kept_model(given, 1)
        before = {name: loaded.get_parameter(name).data.clone() for name in names}
        with timed("reading the delta"):
            flips = flips_of(given.with_delta(str(delta)))
        for way, wanted in (("in", tuned), ("out", before), ("in again", tuned), ("out again", before)):
            with timed(f"swapping it {way}"):
                flips.flip(loaded)
            same = all(torch.equal(loaded.get_parameter(name).data, wanted[name]) for name in names)
            print(f"{'':44} {'to the bit' if same else 'NOT THE SAME'}", flush=True)


if __name__ == "__main__":
    main()
