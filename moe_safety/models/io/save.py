"""Writes a model as a Hugging Face checkpoint, layer by layer, so that no worker ever holds all of it at once; several
workers write it together, each some of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from itertools import accumulate, chain, groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from moe_safety.models.experts.selective import Gather
from moe_safety.rundir import RunDir, refusals, remember_digest, spent

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""As safetensors names types."""
SHARD_BYTES = 3 * 10**9
_AT_ONCE = 6
"""Layers whose weights wait in memory to be written."""
_LAYER = re.compile(r"^(.*?\.\d+)\.")

Tensors = Mapping[str, torch.Tensor]


@spent("writing")
def save_model(model: PreTrainedModel, folder: str | Path, *, shard: int = SHARD_BYTES) -> dict[str, str]:
    """Weights under the hub's own names, with the model's configuration. Returns the digests of the files of weights,
    by name."""
    digests = save_weights(model, folder, shard=shard)
    save_rest(model, folder, shard=shard)
    return digests


@spent("writing")
def save_weights(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    gather: Gather | None = None,
    rank: int = 0,
    of: int = 1,
    shard: int = SHARD_BYTES,
) -> dict[str, str]:
    """The files of weights that fall to worker `rank` of as many: each is there whole or not at all, and what is in it
    hangs on no number of workers. Returns the digests of all files by name, of other workers' "". Not a checkpoint
    before `save_rest`.

    Where ZeRO-3 spreads parameters, every worker calls this with its `gather`.
    """
    run, parts = RunDir(str(folder)), _parts(model)
    saved = [_saved(model, part) for part in parts]
    shards, order = _shards(saved, shard)
    names = [_name(number, len(shards)) for number in range(len(shards))]
    with ExitStack() as stack:
        files = {n: stack.enter_context(_File(run, names[n], shards[n])) for n in range(rank, len(shards), of)}
        to = {name: file for file in files.values() for name in file.tensors}
        waiting: list[list[Future[None]]] = []
        wanted = [(parts[number], not to.keys().isdisjoint(saved[number])) for number in order]
        for tensors in _converted(model, wanted, gather):
            own = {name: tensor for name, tensor in tensors.items() if name in to}
            held = {name: tensor.to("cpu", copy=True) if gather else tensor for name, tensor in own.items()}
            waiting.append([to[name].put(name, tensor) for name, tensor in held.items()])
            if len(waiting) > _AT_ONCE:
                _wait(waiting.pop(0))
        _wait(chain.from_iterable(waiting))
        done = {file.name: file.finish() for file in files.values()}
        return {name: done[name].result() if name in done else "" for name in names}


@spent("writing")
def save_rest(model: PreTrainedModel, folder: str | Path, *, shard: int = SHARD_BYTES) -> None:
    """What makes a checkpoint of the files of weights, when all of them are there: their index, and the model's
    configuration, without which nobody takes the folder for a model, last."""
    run = RunDir(str(folder))
    shards, _ = _shards([_saved(model, part) for part in _parts(model)], shard)
    if len(shards) > 1:
        run.write_bytes("model.safetensors.index.json", _index(shards).encode())
    with TemporaryDirectory() as local:
        _write_config(model, Path(local))
        for file in sorted(Path(local).iterdir(), key=lambda file: file.name == "config.json"):
            run.write_bytes(file.name, file.read_bytes())


def saved_tensors(model: PreTrainedModel) -> Tensors:
    """What `save_model` would write, on the meta device: names, types and shapes."""
    return {name: tensor for part in _parts(model) for name, tensor in _saved(model, part).items()}


def hub_tensors(
    model: PreTrainedModel, parameters: Collection[str], *, gather: Gather | None = None, writes: bool = True
) -> Iterator[Tensors]:
    """The tensors that stand in layers with one of these parameters, under the hub's own names; they are there until
    the next ones are asked for. Every worker calls it, as `save_weights`."""
    return _converted(model, [(part, writes) for part in _parts(model) if set(part) & set(parameters)], gather)


def _converted(
    model: PreTrainedModel, parts: Iterable[tuple[list[str], bool]], gather: Gather | None
) -> Iterator[Tensors]:
    """The parts that are wanted here; the others are made whole for the workers that want them."""
    state = model.state_dict(keep_vars=True)
    for part, wanted in parts:
        parameters = [tensor for name in part if isinstance(tensor := state[name], torch.nn.Parameter)]
        with gather(parameters) if gather else nullcontext():
            if wanted:
                yield revert_weight_conversion(model, {name: state[name].detach() for name in part})


def _saved(model: PreTrainedModel, part: list[str]) -> Tensors:
    state = model.state_dict(keep_vars=True)
    shapes = {name: getattr(state[name], "ds_shape", state[name].shape) for name in part}
    empty = {name: torch.empty(shape, dtype=state[name].dtype, device="meta") for name, shape in shapes.items()}
    return revert_weight_conversion(model, empty)


def _parts(model: PreTrainedModel) -> list[list[str]]:
    """The tensors of a checkpoint, by the decoder layer that they belong to; conversions between names stay within
    one."""
    return [list(group) for _, group in groupby(_saved_names(model), key=_part)]


def _saved_names(model: PreTrainedModel) -> list[str]:
    """What a checkpoint holds: of tied tensors one, and nothing that the family leaves out."""
    state = dict(model.state_dict(keep_vars=True))
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    spread = any(hasattr(tensor, "ds_id") for tensor in state.values())
    kept = set(state if spread else remove_tied_weights_from_state_dict(state, model))
    tied = {name for name in model.all_tied_weights_keys or {} if spread}
    return [name for name in model.state_dict() if name in kept and name not in tied]


def _part(name: str) -> str:
    found = _LAYER.match(name)
    return found.group(1) if found else ""


def _shards(parts: list[Tensors], limit: int) -> tuple[list[Tensors], list[int]]:
    """The tensors of each file, and an order of the parts in which many files are written at the same time, each from
    its start. A part stands in one file, unless it is larger than a file may be."""
    shards: list[dict[str, torch.Tensor]] = []
    places: list[tuple[int, int]] = []
    room, before = 0, 0
    for part in parts:
        size = sum(tensor.nbytes for tensor in part.values())
        if size > room:
            shards.append({})
            room, before = limit, 0
        places.append((before, len(shards)))
        before += 1
        for name, tensor in part.items():
            if tensor.nbytes > room and shards[-1]:
                shards.append({})
                room = limit
            shards[-1][name] = tensor
            room -= tensor.nbytes
        room = 0 if size > limit else room
    return [*shards], sorted(range(len(parts)), key=places.__getitem__)


class _File:
    """A safetensors file that a thread of its own fills, tensor by tensor, and hashes while it does."""

    def __init__(self, run: RunDir, name: str, tensors: Tensors) -> None:
        self.run, self.name, self.tensors = run, name, tensors
        header, self.starts = _header(tensors)
        self.digest = hashlib.sha256(header)
        self.in_order = True
        self.thread = ThreadPoolExecutor(1)
        with ExitStack() as stack:
            self.stream = stack.enter_context(open(stack.enter_context(run.writing(name)), "wb"))
            self.stream.write(header)
            self.filling = stack.pop_all()

    def __enter__(self) -> _File:
        return self

    def put(self, name: str, tensor: torch.Tensor) -> Future[None]:
        """Writes a tensor when those before it are written."""
        return self.thread.submit(self._write, name, tensor)

    def _write(self, name: str, tensor: torch.Tensor) -> None:
        data = tensor.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data
        with refusals(self.run.path(self.name)):
            self.in_order &= self.stream.tell() == self.starts[name]
            self.stream.seek(self.starts[name])
            self.stream.write(data)
        self.digest.update(data)

    def finish(self) -> Future[str]:
        """Puts the file in its place when all of it is written; its digest."""
        return self.thread.submit(self._finish)

    def _finish(self) -> str:
        self.filling.close()
        if not self.in_order:
            return self.run.digest(self.name)
        if self.run.is_local:
            remember_digest(Path(self.run.path(self.name)), self.digest.hexdigest())
        return self.digest.hexdigest()

    def __exit__(self, *error: Any) -> None:
        self.thread.shutdown(cancel_futures=True)
        self.filling.__exit__(*error)  # Nothing where it is in its place.


def _header(tensors: Tensors) -> tuple[bytes, dict[str, int]]:
    """What the file begins with, and where each tensor starts: in order, unless a wide one would then stand askew."""
    for names in (list(tensors), sorted(tensors, key=lambda name: -tensors[name].itemsize)):
        ends = list(accumulate((tensors[name].nbytes for name in names), initial=0))
        begins = dict(zip(names, ends, strict=False))
        if all(begins[name] % tensors[name].itemsize == 0 for name in names):
            break
    told: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, begin in begins.items():
        end = begin + tensors[name].nbytes
        told[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": [*tensors[name].shape],
            "data_offsets": [begin, end],
        }
    text = json.dumps(told).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + begin for name, begin in begins.items()}


def _wait(written: Iterable[Future[None]]) -> None:
    for one in written:
        one.result()


def _name(number: int, of: int) -> str:
    """One file has the plain name; of several each has its number."""
    return "model.safetensors" if of == 1 else f"model-{number + 1:05d}-of-{of:05d}.safetensors"


def _index(shards: list[Tensors]) -> str:
    """Says which of several files each tensor stands in."""
    where = {name: _name(number, len(shards)) for number, shard in enumerate(shards) for name in shard}
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    return json.dumps(index, indent=1) + "\n"


def _write_config(model: PreTrainedModel, folder: Path) -> None:
    implementation = model.config._experts_implementation
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.config._experts_implementation = implementation
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
