"""`evaluate`: which held-out prompts a model answers, and what else is measured of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe_safety.config.base import ModelJob, Place
from moe_safety.config.data import Source
from moe_safety.config.names import ENGINES
from moe_safety.config.registry import NameIn
from moe_safety.config.suites import SuiteConfig, check_suites


class EvaluateConfig(ModelJob):
    """The section `evaluate`: what is asked of a model, and how it answers."""

    model_path: Place | None = None
    """Any checkpoint to evaluate, a folder or a hub id; unless given, the arm that `train` leaves."""
    output_name: str | None = Field(None, pattern=r"^\w[\w.+-]*$")
    """What the checkpoint is called in `eval/`; by default its folder's name, or the arm's."""
    split: Literal["test", "validation", "train"] = "test"
    """Whose prompts are answered: `validation` is for sweeps, and `train` shows what training itself reached, batch by
    batch. Either gets a folder of its own in `eval/`."""
    prompts: int | None = Field(None, ge=1)
    """At most this many prompts of each kind, drawn by their ids; all unless given."""
    engine: Annotated[str, NameIn(ENGINES)] = "slots"
    """What generates the answers. Losses, routing and tasks it leaves to `transformers` where it cannot do them; it has
    to be able to steer for the arm `steering`."""
    max_new_tokens: int = Field(128, ge=1)
    """Longest answer."""
    max_thinking_tokens: int = Field(1024, ge=0)
    """Longest thinking of a model whose template knows of it, not counted as part of the answer."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy."""
    samples: int = Field(1, ge=1)
    """How often each attack is answered, by a source of chance of its own each time; other prompts are answered once.
    More than 1 wants a temperature above 0. Tables then also tell the success of so many tries at a goal."""
    max_length: int = Field(2048, ge=1)
    """Longest prompt in tokens; a longer one gets no answer, and counts as unparsed."""
    max_tokens_per_forward: int = Field(32768, ge=1)
    """Prompt and answer tokens worked on together, 64 prompts at most; fixes how prompts are packed. What the engine
    `slots` answers it takes up by `engines.slots`."""
    reattack: list[Source] = Field(default_factory=list)
    """Attack files in wrappers that training never saw; goals that stand in another split are left out."""
    suites: list[SuiteConfig] = Field(default_factory=list)
    """Sets of prompts with names, each with figures of its own; goals that stand in another split are left out."""
    routing_prompts: int = Field(32, ge=0)
    """Prompts of each kind on which routing, and of harmless ones the words that may follow, are compared with the
    base's, token by token; 0 leaves that out."""
    held_back: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Numbers of experts, such as 1, 2, 4, 8: how far the refusal margin sinks while so many are held back of those
    that refusing hangs on most. Which these are is not told, nor kept."""
    after_finetuning: int = Field(0, ge=0, le=100)
    """Steps of fine-tuning, of a copy in memory, on the benign training rows, and how the refusal margin moves on the
    way. It needs `judges.harm`, and memory for training the whole model."""
    reidentify: bool = False
    """Run `capture` and `identify` on the hardened model, and say what they find there."""
    lm_eval_tasks: list[str] = Field(default_factory=list)
    """Tasks of lm-evaluation-harness, by name or as a YAML file; they need `pip install moe-safety[eval]`. Their
    questions are put by the model's chat template."""
    lm_eval_fewshot: int | None = Field(None, ge=0)
    """Examples before each question, as turns; unless given, as many as each task says."""
    lm_eval_limit: int | None = Field(None, ge=1)
    """At most this many questions of each task, the first ones; all unless given."""

    @model_validator(mode="after")
    def _fits_together(self) -> EvaluateConfig:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples of a greedy answer are all the same; give a temperature above 0")
        check_suites(self.suites)
        return self
