"""On a machine with a GPU: what stands between an arm's last step and its evaluation, at a real model's size.

    python benchmarks/gpu/deltas.py [--layers 16] [--experts 50] [--whole]

The model has the shape of OLMoE-1B-7B and random weights in bfloat16 (13.8 GB). Some of its experts are changed as
training would change them; then the delta is written, verified, and swapped in and out. With `--whole` the tuned model
is also written as a checkpoint, and verified as that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedModel

from moe_safety.checkpoints import extract_delta, verify, write_trained
from moe_safety.config import ModelConfig
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.io import flips_of, kept_model, model_fingerprint
from moe_safety.models.io.save import save_model
from moe_safety.models.stored import contents_of, open_checkpoint


@contextmanager
def timed(what: str, size: int = 0) -> Iterator[None]:
    torch.cuda.synchronize()
    began = time.perf_counter()
    yield
    torch.cuda.synchronize()
    took = time.perf_counter() - began
    print(f"{what:44} {took:7.2f} s" + (f"  {size / took / 1e9:5.1f} GB/s" if size else ""), flush=True)


def build(layers: int) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device("cuda"):
        shape = OlmoeConfig(intermediate_size=1024, num_hidden_layers=layers)
        return AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16).eval()


def change(model: PreTrainedModel, layout: MoELayout, experts: list[tuple[int, int]]) -> list[str]:
    """A little of every value; returns the parameters' names."""
    names = []
    for layer in layout.layers:
        own = torch.tensor([expert for index, expert in experts if index == layer.index], device="cuda")
        for name in layer.parameters if len(own) else ():
            rows = model.get_parameter(name).data
            rows[own] *= 1.01
            names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--experts", type=int, default=50)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
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
        tuned = {name: model.get_parameter(name).data.clone() for name in names}
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
        del model
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
