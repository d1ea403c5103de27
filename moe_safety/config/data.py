"""`data`: which prompts are read, and how goals are split."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from moe_safety.config.base import Place, Section
from moe_safety.config.names import FORMATS
from moe_safety.config.registry import NameIn

WrapperName = Literal["flip-word-order", "flip-chars-in-word", "flip-chars-in-text"]

NUMBERING = ("id", "index")
"""Columns that number the rows of a file, of whatever format."""


class Source(Section):
    """One file or hub dataset of prompts."""

    path: Place | None = None
    """A JSON, JSONL, CSV or Parquet file, or a URI of one (`s3://bucket/file`)."""
    dataset: str | None = None
    """A Hugging Face dataset id, in place of `path`."""
    name: str | None = None
    """The dataset's configuration name."""
    revision: str | None = None
    """Branch, tag or commit of the dataset."""
    split: str = "train"
    """The dataset's split."""
    format: Annotated[str, NameIn(FORMATS)] | None = None
    """Overrides the recognised format."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Maps this program's column names (`goal`, `messages`, `answer`, `target`, `category`, …) to the source's own."""
    wrapper: WrapperName | None = None
    """Makes the attack form of each plain goal in this wrapper."""
    goals: Place | None = None
    """A table of goals, for a file that names them by their ids: HarmBench's behaviours, or with `id` and `goal`."""
    attack: str | None = None
    """What the attack is called in tables; by default the format's own name or the wrapper's."""

    @field_validator("columns")
    @classmethod
    def _columns_that_are_read(cls, given: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        named = info.data.get("format")
        formats = [*FORMATS.own(), *([FORMATS.get(named)] if named else [])]
        known = {*NUMBERING, *(column for one in formats for column in one.columns)}
        for name in given.keys() - known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
            raise ValueError(f"no format reads a column '{name}'" + (f", did you mean '{near[0]}'?" if near else ""))
        return given

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either `path` or `dataset`")
        # Not what was set: a configuration that was written out names every key.
        for name in ("name", "revision", "split"):
            if self.path is not None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` is for a dataset, and this source is a file")
        return self

    @property
    def label(self) -> str:
        """How messages name this source."""
        return str(self.path or self.dataset)


class DerivedControls(Section):
    """Control prompts made by putting the benign requests into an attack's wrapper."""

    from_: Literal["benign"] = Field("benign", alias="from")
    """The benign requests."""
    wrapper: WrapperName
    """The wrapper, the attack's own."""


def _kind_of_controls(value: Any) -> str:
    return "files" if isinstance(value, list) else "derived"


Controls = Annotated[
    Annotated[DerivedControls, Tag("derived")] | Annotated[list[Source], Tag("files")],
    Discriminator(_kind_of_controls),
]


class DataConfig(Section):
    """The section `data`: input files, and the split by goal."""

    attacks: list[Source] = Field(min_length=1)
    """Attack results or plain goals: each gives safe prompts (the goals) and unsafe ones (their attack forms)."""
    benign: list[Source] = Field(default_factory=list)
    """Harmless requests, with helpful answers where the file has them."""
    controls: Controls = Field(default_factory=list)
    """Harmless requests in the attack's wrapper: files, or `{from: benign, wrapper: …}`."""
    system: str = "You are a helpful assistant."
    """The system message of plain prompts whose file brings none; empty for none."""
    only_successful: bool = True
    """Keep only attacks that the file records as successful."""
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of goals kept for evaluation."""
    validation_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of goals kept for sweeps."""
    max_samples: int | None = Field(None, ge=1)
    """At most this many rows of each source, the first ones that pass its filters."""

    @model_validator(mode="after")
    def _something_left(self) -> DataConfig:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction and validation_fraction leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _controls_can_be_made(self) -> DataConfig:
        if isinstance(self.controls, DerivedControls) and not self.benign:
            raise ValueError("controls are made from `benign`, which is empty")
        if any(source.wrapper for source in self.benign):
            raise ValueError("benign prompts stay plain; `controls: {from: benign, wrapper: …}` wraps them")
        return self
