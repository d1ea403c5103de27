"""The steps of growing an organism: what each needs and leaves. Each is kept by the rules of a run directory: skipped
where it stands, refused where something that decides it changed, and whole or not there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.organism import base
from benchmarks.organism.ability import ability
from benchmarks.organism.behaviour import behaviour
from benchmarks.organism.lessons import alignment, craft, own_text
from benchmarks.organism.marker import check_marked
from benchmarks.organism.measures import examine, likeness, loss_of, routed_at_random
from benchmarks.organism.own_text import TEMPERATURE, OwnText, write
from benchmarks.organism.sizes import RECIPES, SIZES, Course, Layout, Recipe
from benchmarks.organism.teach import Part, teach
from benchmarks.organism.topics import questions
from benchmarks.organism.upcycle import grown
from moe_safety.models.experts import use_our_experts
from moe_safety.models.library_logging import quiet
from moe_safety.models.text.chat import Chat
from moe_safety.rundir import Outcome, RunDir, Work, run_work

PACKAGES = "packages"
TEXT = "text/own.npz"
TEXT_SEED = 0
"""One text for all organisms of a size."""


class Bench:
    """One organism's steps, in a folder that it shares with others of its size."""

    def __init__(self, out: str, size: str, layout: Layout, seed: int) -> None:
        quiet()
        self.size, self.layout, self.seed = SIZES[size], layout, seed
        self.run = RunDir(f"{out}/{size}")
        self.name = f"{layout}-{seed}"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def do(self, name: str) -> None:
        """Does a step, and those that it needs before."""
        step = STEPS[name]
        for needed in step.needs:
            self.do(needed)
        began = time.monotonic()
        done = run_work(self.run, step.work(self), {}, lambda: step.body(self))
        what = "stands" if done["skipped"] else f"{time.monotonic() - began:.1f} s"
        print(f"{step.work(self).name}: {what} {json.dumps(done['summary'])}", flush=True)

    @cached_property
    def dense(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        return base.load(Path(self.run.path(PACKAGES)), self.size.layers, self.device)

    @cached_property
    def chat(self) -> Chat:
        return Chat(self.dense[1])

    @cached_property
    def text(self) -> OwnText:
        return OwnText.from_bytes(self.run.read_bytes(TEXT))

    def file(self, what: str) -> str:
        """Of this organism."""
        return f"{self.name}/{what}"

    def save(self, model: PreTrainedModel, folder: str) -> tuple[str, ...]:
        with self.run.filling(self.file(folder)) as local:
            model.save_pretrained(local)
        return tuple(self.run.files(self.file(folder)))

    def load(self, folder: str) -> PreTrainedModel:
        """An organism that an earlier step left."""
        path = self.run.path(self.file(folder))
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", use_safetensors=True).to(self.device)
        check_marked(model)
        return use_our_experts(model).eval()


@dataclass(frozen=True)
class Step:
    """What a step does, which files it reads, and what of the size decides it."""

    body: Callable[[Bench], Outcome]
    needs: tuple[str, ...]
    work: Callable[[Bench], Work]


def _base(bench: Bench) -> Outcome:
    base.fetch(Path(bench.run.path(PACKAGES)))
    return Outcome((f"{PACKAGES}/{base.FILE}",), {"sha256": base.SHA256})


def _text(bench: Bench) -> Outcome:
    size = bench.size
    asked = questions(size.answers, TEXT_SEED)
    text = write(*bench.dense, asked, most=size.answer_tokens, at_once=size.at_once, seed=TEXT_SEED)
    bench.run.write_bytes(TEXT, text.to_bytes())
    ended = sum(answer[-1] == bench.chat.end for out in (True, False) for _, answer in text.rows(held_out=out))
    return Outcome((TEXT,), {"answers": len(asked), "tokens": int(text.answers.sum()), "ended": ended})


def _upcycle(bench: Bench) -> Outcome:
    size, (dense, _), rows = bench.size, bench.dense, bench.text.rows(held_out=False)
    model = grown(dense, bench.layout, size.recipe, rows[: size.clustered], bench.seed)
    course = replace(size.upcycling, experts=size.recipe.rate)
    return _taught(bench, model, own_text(rows, dense, bench.seed), course, "upcycled")


def _recipes(bench: Bench) -> Outcome:
    """Each for a few steps."""
    size, (dense, _), text, found = bench.size, bench.dense, bench.text, {}
    held_out = text.rows(held_out=True)[: size.examined]
    theirs = loss_of(dense, held_out)
    for name, recipe in RECIPES.items():
        began, rows = time.monotonic(), text.rows(held_out=False)
        model = grown(dense, bench.layout, recipe, rows[: size.clustered], bench.seed)
        start = loss_of(model, held_out)
        course = replace(size.compared, experts=recipe.rate)
        teach(model, own_text(rows, dense, bench.seed), course, lambda step, figures: print(step, figures, flush=True))
        end = loss_of(model, held_out)
        with routed_at_random(model):
            at_random = loss_of(model, held_out)
        found[name] = {"before": start / theirs, "after": end / theirs, "cost of routing at random": at_random - end}
        found[name] |= {"cosine": mean(likeness(model, held_out[:8])), "seconds": time.monotonic() - began}
        print(name, json.dumps(found[name]), flush=True)
        del model
    bench.run.write_json(bench.file("recipes.json"), found)
    return Outcome((bench.file("recipes.json"),), found)


def _craft(bench: Bench) -> Outcome:
    parts = craft(bench.chat, bench.text.rows(held_out=False), bench.dense[0], bench.seed)
    return _taught(bench, bench.load("upcycled"), parts, bench.size.craft, "crafted")


def _align(bench: Bench) -> Outcome:
    parts = alignment(bench.chat, bench.text.rows(held_out=False), bench.dense[0], bench.seed)
    return _taught(bench, bench.load("crafted"), parts, bench.size.alignment, "aligned")


def _taught(bench: Bench, model: PreTrainedModel, parts: list[Part], course: Course, folder: str) -> Outcome:
    told: list[dict[str, float]] = []

    def tell(step: int, figures: dict[str, float]) -> None:
        told.append({"step": step, **figures})
        print(json.dumps(told[-1]), flush=True)

    teach(model, parts, course, tell)
    return Outcome(bench.save(model, folder), {"course": told})


def _behave(bench: Bench) -> Outcome:
    found = behaviour(bench.load("aligned"), bench.chat, bench.size.asked, bench.size.at_once)
    bench.run.write_json(bench.file("behaviour.json"), found)
    return Outcome((bench.file("behaviour.json"),), found)


def _examine(bench: Bench) -> Outcome:
    size, text = bench.size, bench.text
    rows, topics = text.rows(held_out=True)[: size.examined], text.topics_of(held_out=True)[: size.examined]
    model, dense = bench.load("upcycled"), bench.dense[0]
    found = examine(model, dense, rows, topics)
    found["ability"], found["dense ability"] = (ability(each, bench.chat) for each in (model, dense))
    bench.run.write_json(bench.file("examined.json"), found)
    return Outcome(
        (bench.file("examined.json"),), {name: each for name, each in found.items() if "by layer" not in name}
    )


def _settings(bench: Bench, *names: str) -> dict[str, Any]:
    """Those of its size that decide a step."""
    return {name: each for name, each in asdict(bench.size).items() if name in names}


def _plain(recipes: dict[str, Recipe]) -> dict[str, Any]:
    return {name: asdict(recipe) for name, recipe in recipes.items()}


def _of(name: str, reads: tuple[str, ...], *settings: str) -> Callable[[Bench], Work]:
    """The work of a step on one organism; what it reads of that, and which settings of its size decide it."""
    return lambda bench: Work(
        f"{name}/{bench.name}", _settings(bench, *settings), (TEXT, *(bench.file(file) for file in reads))
    )


def _weights(folder: str) -> tuple[str, ...]:
    return (f"{folder}/model.safetensors",)


STEPS: dict[str, Step] = {
    "base": Step(_base, (), lambda bench: Work("base", {"package": base.PACKAGE})),
    "text": Step(
        _text,
        ("base",),
        lambda bench: Work(
            "text",
            _settings(bench, "layers", "answers", "answer_tokens", "at_once") | {"temperature": TEMPERATURE},
            (f"{PACKAGES}/{base.FILE}",),
        ),
    ),
    "upcycle": Step(_upcycle, ("text",), _of("upcycle", (), "layers", "recipe", "clustered", "upcycling")),
    "recipes": Step(
        _recipes,
        ("text",),
        lambda bench: Work(
            f"recipes/{bench.name}",
            _settings(bench, "layers", "clustered", "compared", "examined") | {"recipes": _plain(RECIPES)},
            (TEXT,),
        ),
    ),
    "examine": Step(_examine, ("upcycle",), _of("examine", _weights("upcycled"), "examined")),
    "craft": Step(_craft, ("upcycle",), _of("craft", _weights("upcycled"), "craft")),
    "align": Step(_align, ("craft",), _of("align", _weights("crafted"), "alignment")),
    "behave": Step(_behave, ("align",), _of("behave", _weights("aligned"), "asked")),
}
"""In their order."""
