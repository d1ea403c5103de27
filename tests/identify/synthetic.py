"""A run directory as `capture` leaves it, with invented counts."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_safety.batches.files import prompts_digest
from moe_safety.batches.mixed import BATCHES_SCHEMA
from moe_safety.config import Config
from moe_safety.identify.resampling import Resampling
from moe_safety.inputs.table import PROMPTS_SCHEMA
from moe_safety.models import MoELayer, MoELayout
from moe_safety.models.io import model_fingerprint
from moe_safety.routing.capture import settings_of
from moe_safety.routing.table import routing_table
from moe_safety.rundir import Outcome, RunDir, Work, run_work

SIDE = {"safe": "attacked", "unsafe": "attacked", "benign": "harmless", "control": "harmless"}


def make_layout(sizes=(4, 4), first=0, top_k=2):
    """MoE layers of these sizes; `first` dense layers stand before them."""
    layers = tuple(
        MoELayer(first + i, f"l{i}", f"l{i}.e", f"l{i}.r", n, top_k, {}, False, False, True, True, ())
        for i, n in enumerate(sizes)
    )
    return MoELayout("invented", first + len(sizes), 8, layers, tuple(range(first)))


@dataclass
class Invented:
    """Batches with their counts. A place is (batch, label, goal); a prompt is (label, goal)."""

    layout: MoELayout = field(default_factory=make_layout)
    places: list = field(default_factory=list)
    tokens: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)
    categories: dict = field(default_factory=dict)

    def add(self, batch, label, goal, tokens, counts):
        """`counts` is [MoE layers, experts]."""
        self.places.append((batch, label, goal))
        self.tokens[label, goal], self.counts[label, goal] = tokens, np.asarray(counts)

    @property
    def prompts(self):
        return list(dict.fromkeys((label, goal) for _, label, goal in self.places))

    def prompts_table(self):
        rows = [
            dict.fromkeys(PROMPTS_SCHEMA.names)
            | {"prompt_id": f"{label}-{goal}", "goal_id": f"{SIDE[label]}-{goal}", "label": label, "split": "train"}
            | {"category": self.categories.get((label, goal))}
            for label, goal in self.prompts
        ]
        return pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA)

    def batches_table(self):
        rows = [
            dict.fromkeys(BATCHES_SCHEMA.names)
            | {"batch_idx": batch, "in_batch_idx": place, "prompt_id": f"{label}-{goal}", "label": label}
            for place, (batch, label, goal) in enumerate(self.places)
        ]
        return pa.Table.from_pylist(rows, schema=BATCHES_SCHEMA)

    def routing(self, prompts):
        counts = np.stack([self.counts[prompt] for prompt in prompts])
        tokens = np.array([self.tokens[prompt] for prompt in prompts])
        ids = [f"{label}-{goal}" for label, goal in prompts]
        return routing_table(self.layout, ids, tokens, counts, counts * np.float32(0.25))

    def write(self, folder, parts=2, **settings):
        """Everything up to `capture`; returns the configuration."""
        model = folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text(json.dumps({"model_type": "invented"}))
        config = Config.model_validate(
            {
                "run_dir": str(folder / "run"),
                "model": {"name": str(model)},
                "data": {"attacks": [{"path": "none.json"}]},
                "identify": {"method": "routing", "bootstrap_rounds": 50, "top_k": 3} | settings,
            }
        )
        run = RunDir(config.run_dir)
        run.write_table("prompts.parquet", self.prompts_table())
        run.write_table("batches.parquet", self.batches_table())
        self.capture(config, parts)
        return config

    def capture(self, config, parts=2):
        run = RunDir(config.run_dir)
        cut = np.array_split(np.arange(len(self.prompts)), parts)
        names = [f"routing/part-{number:06d}.parquet" for number in range(parts)]

        def body():
            for name, rows in zip(names, cut, strict=True):
                run.write_table(name, self.routing([self.prompts[row] for row in rows]))
            return Outcome(tuple(names), {"files": names, "layout": self.layout.fingerprint()})

        stage = Work(
            "capture",
            settings_of(config),
            (),
            {"prompts": prompts_digest(run), "model": model_fingerprint(config.model)},
        )
        run_work(run, stage, {}, body, force=True)


def invent(layout=None, goals=12, per_batch=4, harmless=0, seed=0, categories=("red", "blue"), lift=None):
    """Random counts for `goals` pairs, `per_batch` of them a batch, with `harmless` benign and control ones on top."""
    made = Invented(layout or make_layout())
    generator = np.random.default_rng(seed)
    rates = {label: generator.uniform(0.1, 0.4, made.layout.shape) for label in SIDE}
    rates["unsafe"] = rates["safe"] + (np.zeros(made.layout.shape) if lift is None else lift)
    exists = np.array([np.arange(made.layout.max_experts) < layer.num_experts for layer in made.layout.layers])

    def add(batch, label, goal):
        tokens = int(generator.integers(5, 60))
        made.add(batch, label, goal, tokens, generator.binomial(tokens, np.clip(rates[label], 0, 1)) * exists)

    for goal in range(goals - goals % per_batch):
        for label in ("safe", "unsafe"):
            add(goal // per_batch, label, goal)
        if categories:
            made.categories["unsafe", goal] = categories[goal // per_batch % len(categories)]
    for batch in range(goals // per_batch):
        for goal in range(batch * harmless, (batch + 1) * harmless):
            for label in ("benign", "control"):
                add(batch, label, goal)
    made.places.sort(key=lambda place: place[0])
    return made


def with_settings(config, **settings):
    """The configuration with another `identify` section."""
    return config.model_copy(update={"identify": replace_section(config.identify, settings)})


def replace_section(section, settings):
    return type(section).model_validate(section.model_dump() | settings)


def resampled_goals(places, rounds, seed):
    """[goals, resamplings]: how often each counts."""
    with tempfile.TemporaryDirectory() as folder:
        goals, times = Resampling(Path(folder), places, [np.arange(len(places))], rounds, seed).of(0)
    return times[:, np.argsort(goals)].T
