"""`init`: a commented configuration, from what model and files say of themselves, for the cards that are here."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_safety.cli.commands import Commands
from moe_safety.cli.host import memory_here, multiplies_bfloat16
from moe_safety.cli.tools import path_of
from moe_safety.errors import InputError

if TYPE_CHECKING:
    from moe_safety.config import ModelConfig, WrapperName
    from moe_safety.inputs.sources import SourceRows
    from moe_safety.models.inspection.cluster_shapes import Enough, Shape
    from moe_safety.models.inspection.inspect import Inspection
    from moe_safety.models.inspection.memory_forecast import Load, Training

WRAPPER: WrapperName = "flip-word-order"
_LEAST_BATCHES = 4
_SLOW = "docs/troubleshooting.md#a-run-without-a-card-is-slow"
_PASS = 4096
"""Tokens of a processor's forward pass, prompts and answers."""
_ANSWER = 128
"""Tokens of an answer that count, `batches.max_answer`."""


def add_commands(commands: Commands) -> None:
    """Adds `init` to the command line."""
    init = commands.add(
        "init",
        "write a commented configuration for your model and files",
        _init,
        group="whole runs",
        example="moe-safety init allenai/OLMoE-1B-7B-0125-Instruct --attacks OLMOE-FWO.json --benign helpful.jsonl",
    )
    init.add_argument("model", metavar="MODEL", help="a folder, a hub id, or `demo`")
    init.add_argument("--attacks", metavar="FILE", nargs="+", required=True, help="attack results, or plain goals")
    init.add_argument("--benign", metavar="FILE", nargs="+", default=[], help="harmless requests, with helpful answers")
    init.add_argument(
        "--controls", metavar="FILE", nargs="+", default=[], help="harmless requests in the attack's form"
    )
    init.add_argument("--cards", metavar="NxGB", type=_as_cards, help="such as 4x80; those that are here unless given")
    init.add_argument("--out", metavar="FILE", default="my-run.yaml", help="where to; my-run.yaml unless given")
    init.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")


def _as_cards(text: str) -> list[float]:
    """The gigabytes of each card."""
    found = re.fullmatch(r"(\d+)x(\d+(?:\.\d+)?)", text)
    if found is None or not int(found[1]) or not float(found[2]):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of cards and their gigabytes, such as 4x80")
    return [float(found[2])] * int(found[1])


def _init(args: argparse.Namespace) -> None:
    from moe_safety.everything import load_config

    out = Path(args.out)
    if out.exists():
        raise InputError("is there already; give another --out", file=out)
    if not out.parent.is_dir():
        raise InputError("cannot be written: there is no such folder", file=out)
    found = _look(args)
    try:
        out.write_text("".join(f"{line}\n" for line in lines_of(found)), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=out) from None
    load_config(out)
    for warning in found.inspection.warnings + found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"wrote {out}: {len(found.goals)} goals, {found.batch_size} rows of them in a batch, {found.told_cards()}")
    print(f"next: read it, then moe-safety prepare {out}, or `run`, which does everything")


@dataclass(frozen=True)
class Found:
    """What the model, the files and this machine say."""

    model: ModelConfig
    inspection: Inspection
    attacks: Sequence[SourceRows]
    benign: Sequence[SourceRows]
    controls: Sequence[SourceRows]
    only_successful: bool
    longest: int | None
    """Tokens of the longest prompt; unknown where the tokenizer cannot be read."""
    cards: Sequence[float]
    """Gigabytes of each card."""
    host: float
    """Gigabytes of memory that are here."""

    @cached_property
    def goals(self) -> set[str]:
        """What the attackers want, each once."""
        return {row.goal for source in self.attacks for row in source.rows}

    @property
    def batch_size(self) -> int:
        """The largest that leaves some batches: of the goals seven in ten train, with two rows each."""
        rows = 2 * int(0.7 * len(self.goals))
        return next((size for size in (16, 8, 4) if rows >= _LEAST_BATCHES * size), 2)

    @property
    def harmless(self) -> int:
        """Benign rows of a batch, and control rows, where there are files of them."""
        return min(4, self.batch_size // 2)

    @property
    def length(self) -> int | None:
        """Tokens that a row may have."""
        return None if self.longest is None else -(-(self.longest + _ANSWER) // 256) * 256

    @property
    def row_tokens(self) -> int:
        """The same, or what it is unless said otherwise."""
        from moe_safety.config import Config

        return self.length or Config.model_fields["batches"].default.max_length

    @property
    def batch_rows(self) -> int:
        """Rows of a batch, harmless ones too."""
        return self.batch_size + self.harmless * (bool(self.benign) + bool(self.benign or self.controls))

    @property
    def batch_tokens(self) -> int:
        """Tokens that a batch may have."""
        return self.batch_rows * self.row_tokens

    @property
    def replica(self) -> Shape | None:
        """The cards of one replica."""
        return self._enough.capture if self.cards else None

    @property
    def worker(self) -> Shape | None:
        """How selective training fits the cards."""
        return self._enough.selective if self.cards else None

    @cached_property
    def _enough(self) -> Enough:
        from moe_safety.models.inspection.cluster_shapes import enough

        return enough(self.inspection.sizes, self._load, min(self.cards))

    @property
    def _load(self) -> Load:
        """As `inspect` takes it; where one row is longer, that."""
        load = self.inspection.load
        return replace(load, tokens=max(load.tokens, self.row_tokens))

    @property
    def room(self) -> float:
        """Bytes that one training worker has."""
        from moe_safety.models.inspection.cluster_shapes import FREE
        from moe_safety.models.inspection.host_memory import PROCESS

        return min(self.cards) * 1e9 * (1 - FREE) if self.cards else self.host * 1e9 * (1 - FREE) - PROCESS

    @property
    def pass_tokens(self) -> int:
        """Tokens of one backward pass: a batch's, where the forecast says that they fit, else as many as do. A row
        cannot be cut."""
        most = self._most("selective")
        return min(most, self._most("full")) if self.fits("full") else most

    def fits(self, task: Training) -> bool:
        """Whether one worker has the memory that the training takes, row by row at the worst."""
        return self._takes(task, self.row_tokens) <= self.room

    def _most(self, task: Training) -> int:
        fixed = self._takes(task, 0)
        each = self._takes(task, 256) - fixed
        return min(self.batch_tokens, max(self.row_tokens, int((self.room - fixed) // each) * 256))

    def _takes(self, task: Training, tokens: int) -> int:
        from moe_safety.models.inspection.cluster_shapes import Shape
        from moe_safety.models.inspection.memory_forecast import training_memory

        shape = self.worker or Shape(1)
        load = replace(self._load, tokens=tokens, checkpointing=shape.checkpointing)
        return training_memory(self.inspection.sizes, load, task, shape.zero_stage, shape.cards).total

    @property
    def warnings(self) -> list[str]:
        """What will not go as it stands."""
        told = []
        if not self.benign:
            told.append("without --benign the model learns to refuse everything: docs/troubleshooting.md")
        for what, shape in (("one replica", self.replica), ("selective training", self.worker)):
            if self.cards and (shape is None or shape.cards > len(self.cards)):
                told.append(f"{what} does not fit these cards: `moe-safety inspect {self.model.name}`")
        if not self.cards and not self.fits("selective"):
            told.append(f"selective training does not fit {self.host:.0f} GB of memory; --cards says for which cards")
        if not self.cards and self.inspection.dtype == "bfloat16" and not multiplies_bfloat16():
            told.append(f"this processor is slow in bfloat16, and {self.model.name} is in it: {_SLOW}")
        return told

    def told_memory(self) -> str:
        """The memory of one worker in words."""
        if not self.cards:
            return f"{self.host:.0f} GB of memory"
        count = self.worker.cards if self.worker else 1
        return f"{min(self.cards):.0f} GB" if count == 1 else f"{count} x {min(self.cards):.0f} GB"

    def told_cards(self) -> str:
        """The cards in words."""
        if not self.cards:
            return "for processors, since there is no card"
        return f"for {len(self.cards)} cards of {min(self.cards):.0f} GB"


def _look(args: argparse.Namespace) -> Found:
    from moe_safety.config import DataConfig, ModelConfig, Source
    from moe_safety.inputs import Role
    from moe_safety.inputs.sources import read_source

    given = ModelConfig(name=args.model, trust_remote_code=args.trust_remote_code)
    data = DataConfig(attacks=[Source(path=args.attacks[0])])

    def read(files: Sequence[str], role: Role) -> list[SourceRows]:
        return [read_source(Source(path=file), role, data) for file in files]

    attacks = read(args.attacks, "attacks")
    if not any(source.rows for source in attacks):
        # Else nothing is left.
        data = data.model_copy(update={"only_successful": False})
        attacks = read(args.attacks, "attacks")
    benign, controls = read(args.benign, "benign"), read(args.controls, "controls")
    path = path_of(given.name)
    # Imports torch and transformers, for seconds, in which a mistake in what was given is told already.
    from moe_safety.models.inspection.inspect import inspect

    inspection = inspect(path, trust_remote_code=args.trust_remote_code)
    wanted = max(2, round(len(inspection.layout.experts()) / 20))
    inspection = inspect(path, trust_remote_code=args.trust_remote_code, chosen=wanted)
    longest = _longest(given, [*attacks, *benign, *controls])
    cards = _cards() if args.cards is None else args.cards
    return Found(
        given, inspection, attacks, benign, controls, data.only_successful, longest, cards, memory_here()[1] / 1e9
    )


def _longest(model: Any, sources: Sequence[SourceRows]) -> int | None:
    """Tokens of the longest prompt, found among the longest texts, as they are asked: behind the system prompt, and
    plain ones in the wrapper."""
    from moe_safety.config import DataConfig
    from moe_safety.inputs import plain, with_system, wrap_conversation
    from moe_safety.models.io import load_chat

    system = DataConfig.model_fields["system"].default

    def asked(row: Any) -> Any:
        messages = with_system(row.messages, system) if row.messages else plain(row.goal, system)
        return wrap_conversation(WRAPPER, messages) if row.plain or row.label == "benign" else messages

    rows = [asked(row) for source in sources for row in source.rows]
    rows.sort(key=lambda messages: -sum(len(one["content"]) for one in messages))
    try:
        chat = load_chat(model)
        return max(len(chat.prompt(messages)) for messages in rows[:20])
    except InputError:
        return None


def _cards() -> list[float]:
    import torch

    there = range(torch.cuda.device_count())
    return [torch.cuda.get_device_properties(card).total_memory / 1e9 for card in there]


def lines_of(found: Found) -> Iterator[str]:
    """The file's lines."""
    sizes, layout = found.inspection.sizes, found.inspection.layout
    stem = f"{Path(found.model.name).name}-{Path(found.attacks[0].source.label).stem}".lower()
    yield "# Written by `moe-safety init`. All keys: docs/configuration.md; what it becomes: --dry-run."
    yield f"run_dir: {_plain(f'runs/{stem}')}"
    remote = ", trust_remote_code: true" * found.model.trust_remote_code
    yield _beside(
        f"model: {{name: {_plain(found.model.name)}{remote}}}",
        f"{sizes.parameters / 1e6:,.0f} million parameters, {layout.n_moe_layers} MoE layers, "
        f"{len(layout.experts()):,} experts",
    )
    yield from _data(found)
    yield from _batches(found)
    yield from _stages(found)
    yield "identify:"
    yield _beside("  method: causal", "holds experts back and measures: docs/identification.md")
    yield _beside(f"  top_k: {found.inspection.load.chosen}", "one expert in twenty")
    yield from _train(found)
    yield from _compare(found)


def _data(found: Found) -> Iterator[str]:
    yield "data:"
    for role, sources in (("attacks", found.attacks), ("benign", found.benign), ("controls", found.controls)):
        if sources:
            yield f"  {role}:"
        for source in sources:
            # Plain requests are wrapped; a file's own attack forms are taken as they are.
            wrapped = role != "benign" and bool(source.rows) and all(row.plain for row in source.rows)
            wrapper = f", wrapper: {WRAPPER}" * wrapped
            yield _beside(f"    - {{path: {_plain(source.source.label)}{wrapper}}}", _told(source))
    if found.benign and not found.controls:
        told = "harmless requests in the attack's form: is it this one?"
        yield _beside(f"  controls: {{from: benign, wrapper: {WRAPPER}}}", told)
    told = "failed attacks never reached the experts looked for"
    yield _beside(f"  only_successful: {json.dumps(found.only_successful)}", told)


def _told(source: SourceRows) -> str:
    answered = sum(row.answer is not None for row in source.rows)
    left_out = "".join(f", {count} {reason}" for reason, count in source.dropped.items())
    recorded = f", {answered} with a recorded answer" if answered else ""
    return f"{source.format.name}: {len(source.rows)} rows{recorded}{left_out}"


def _batches(found: Found) -> Iterator[str]:
    yield "batches:"
    yield _beside(f"  batch_size: {found.batch_size}", f"rows of {len(found.goals)} goals, asked plainly and attacked")
    if found.benign:
        yield _beside(
            f"  benign_per_batch: {found.harmless}", "on refusals alone the model learns to refuse everything"
        )
    if found.benign or found.controls:
        yield _beside(f"  control_per_batch: {found.harmless}", "and without these to refuse the wrapper")
    if found.length is not None:
        told = f"the longest prompt has {found.longest} tokens, and {_ANSWER} of an answer count"
        yield _beside(f"  max_length: {found.length}", told)


def _stages(found: Found) -> Iterator[str]:
    recorded = any(row.answer is not None for source in found.attacks for row in source.rows)
    own = "are the recorded answers this model's own? else false" * recorded
    shared, told = "", ""
    if not found.cards:
        shared, told = f"max_tokens_per_forward: {_PASS}", "small, so that every core has work"
    elif found.replica is not None and found.replica.cards > 1:
        shared, told = f"gpus_per_replica: {found.replica.cards}", f"one replica takes {found.replica.cards} cards"
    for stage in ("respond", "capture", "gradients", "effects", "evaluate"):
        first = stage == "respond"
        # Of gradients a batch is the item.
        settings = ["recorded: true" * (first and recorded), shared * (bool(found.cards) or stage != "gradients")]
        if any(settings):
            text = f"{stage}: {{{', '.join(filter(None, settings))}}}"
            yield _beside(text, own * first or told * bool(settings[1]))


def _train(found: Found) -> Iterator[str]:
    yield "train:"
    yield "  num_epochs: 3"
    yield "  learning_rate: 5.0e-5"
    shape = found.worker
    if shape is None:
        yield _beside("  launch: process", "one worker, without starting Ray Train")
    elif shape.cards == 1:
        yield _beside("  launch: process", "one card is enough")
    else:
        yield _beside(f"  num_workers: {shape.cards}", f"of {min(found.cards):.0f} GB; one batch from each in a step")
        yield _beside(f"  deepspeed: {shape.zero_stage}", "spreads weights and moments over them")
    whole = found.pass_tokens == found.batch_tokens
    told = "all" if whole else f"{found.told_memory()} hold so many"
    told += f" of the {found.batch_tokens:,} tokens that the {found.batch_rows} rows of a batch may have"
    yield _beside(f"  micro_batch_tokens: {found.pass_tokens}", told)
    if shape is not None and shape.checkpointing:
        yield _beside("  checkpointing: true", "activations are computed again, which takes time and saves memory")
    yield _beside("  checkpoint_every: 50", "steps lost at most when a machine fails; Ctrl-C loses none")
    yield _beside("  save: delta", "what changed; `delta apply` makes a checkpoint of it")


def _compare(found: Found) -> Iterator[str]:
    """The usual arms, but for those that train more than fits."""
    from moe_safety.arms import ARMS
    from moe_safety.config import CompareConfig

    if found.fits("full"):
        return
    kept = [name for name in CompareConfig().arms if not ARMS.get(name).trains_all]
    yield "compare:"
    yield f"  # Without `baseline`: to train every parameter takes more than {found.told_memory()}."
    yield f"  arms: [{', '.join(kept)}]"


def _beside(text: str, comment: str) -> str:
    return f"{text:<46}  # {comment}"


def _plain(text: str) -> str:
    """As YAML takes it."""
    import yaml

    safe = all(character.isalnum() or character in "/._-" for character in text) and yaml.safe_load(text) == text
    return text if safe else json.dumps(text, ensure_ascii=False)
