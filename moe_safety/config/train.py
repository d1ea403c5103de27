"""`train`: what may move, on what, how fast, and on how many workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from moe_safety.config.base import Section, resource
from moe_safety.config.names import ARMS
from moe_safety.config.registry import NameIn

Label = Literal["safe", "unsafe", "benign", "control"]
LABELS: tuple[Label, ...] = get_args(Label)
KL = Literal["forward", "reverse", "symmetric"]

DEEPSPEED_OURS = {
    "train_batch_size": "train.num_workers",
    "train_micro_batch_size_per_gpu": "train.micro_batch_tokens",
    "gradient_accumulation_steps": "train.batches_per_worker",
    "gradient_clipping": "train.clip",
    "optimizer": "train.learning_rate and train.weight_decay",
    "scheduler": "train.schedule",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
}
"""What a DeepSpeed configuration may not set, and where it is set here."""


class RouterConfig(Section):
    """The section `train.router`: the router phase."""

    enabled: bool = False
    """After each expert phase, train the routers to treat unsafe prompts as they treat safe ones."""
    lr: float = Field(1e-4, gt=0)
    """Far smaller ones are rounded away where the model is kept in bfloat16."""
    kl: KL = "forward"
    """Divergence between the mean routing of safe prompts, the target, and that of unsafe ones: KL(target || now), the
    `reverse`, or the mean of both."""
    num_epochs: int = Field(1, ge=1)
    """Passes of each router phase over all batches, where it follows an expert phase; the arm `router` alone takes
    `train.num_epochs`."""


class TrainConfig(Section):
    """The section `train`: how an arm is trained."""

    arm: Annotated[str, NameIn(ARMS)] | None = resource(None)
    """The arm to train, any that a comparison may name; it then decides what `mode` and `router.enabled` say. Unless
    given, these and `identify.method` name it: `selective-causal`, `selective-causal+router`, `baseline`."""
    mode: Literal["selective", "baseline"] = "selective"
    """`selective` moves the selected experts alone; `baseline` moves every parameter, on the same data and schedule."""
    masking: Literal["gradient", "routing", "union"] = "gradient"
    """What a batch may move: the experts of its own mask (`gradient`), the same with tokens routed to these experts
    first (`routing`), or every selected expert (`union`)."""
    routing: Literal["frozen", "replay"] = "frozen"
    """In the expert phase routers do not train. `replay` also keeps every token with the experts that the phase's first
    model chose for it, however its hidden states move."""
    shuffle_batches: bool = True
    """Shuffle the order of batches, by seed and epoch; inside a batch order never changes."""
    labels: list[Label] = Field(default=list(LABELS), min_length=1)
    """The rows whose targets are learned in the expert phase; all kinds, unless the earlier scripts' `[unsafe]` is
    wanted."""
    batch_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """How much a batch's loss counts, by its `batch_idx` or its category; 1 unless given. None is less than 0, which
    would teach a model to give in."""
    num_rounds: int = Field(1, ge=1)
    """A round is an expert phase and, if enabled, a router phase."""
    reidentify: bool = False
    """From the second round on, identify anew on the round's model. Gradient and causal selections always are."""
    num_epochs: int = Field(3, ge=1)
    """Passes of each expert phase over all batches."""
    learning_rate: float = Field(5e-5, gt=0)
    """The highest rate of the expert phase, from which `schedule` goes down; the routers' is `router.lr`."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up: not at all, or to zero."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of a phase's steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Decay of the elements that a step moves; what rests does not decay."""
    clip: float | None = Field(1.0, gt=0)
    """The largest norm of a step's gradient; null lets it be."""
    batches_per_worker: int = Field(1, ge=1)
    """Batches that each worker accumulates in a step."""
    micro_batch_tokens: int | None = Field(None, ge=1)
    """Cuts a batch into backward passes of at most this many tokens, whose gradients add up; whole unless given."""
    checkpointing: bool = resource(False)
    """Compute activations again in the backward pass instead of keeping them."""
    router: RouterConfig = RouterConfig()
    save: Literal["model", "delta"] = resource("model")
    """What is left of an arm: a checkpoint of its own and the delta, or the delta alone, which `moe-safety delta apply`
    makes a checkpoint of. An arm that trains more than experts and routers leaves its model either way."""
    num_workers: int = Field(1, ge=1)
    """A step takes a batch from each."""
    launch: Literal["ray", "process"] = resource("ray")
    """`ray` starts Ray Train workers; `process` trains in this very process, on one worker."""
    deepspeed: Literal[0, 1, 2, 3] | dict[str, Any] = 0
    """ZeRO stage, or a DeepSpeed configuration that names one; 0 is plain PyTorch. DeepSpeed gives all that trains one
    type, so in a baseline what a family keeps in float32 is rounded to `model.dtype`."""
    checkpoint_every: int = resource(50, ge=1)
    """Steps between checkpoints, from which a killed run goes on."""
    max_failures: int = resource(3, ge=0)
    """How often workers that died are started again."""

    @field_validator("deepspeed")
    @classmethod
    def _is_deepspeed(cls, given: int | dict[str, Any]) -> int | dict[str, Any]:
        if isinstance(given, dict):
            for key in given.keys() & DEEPSPEED_OURS.keys():
                raise ValueError(f"`{key}` is set by {DEEPSPEED_OURS[key]}")
            zero = given.get("zero_optimization", {})
            if not isinstance(zero, dict) or zero.get("stage") not in (1, 2, 3):
                raise ValueError("zero_optimization is a mapping whose stage is 1, 2 or 3; 0 alone is plain PyTorch")
        return given

    @property
    def zero_stage(self) -> int:
        """ZeRO's, wherever it is given."""
        given = self.deepspeed
        return given if isinstance(given, int) else int(given["zero_optimization"]["stage"])

    @property
    def on_deepspeed(self) -> bool:
        """Whether DeepSpeed trains, and not plain PyTorch."""
        return self.zero_stage > 0

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if self.routing == "replay" and self.masking == "routing":
            raise ValueError("routing: replay keeps the choices that masking: routing would change")
        if self.launch == "process" and self.num_workers > 1:
            raise ValueError("launch: process has one worker; num_workers says more")
        if self.mode == "baseline" and (self.router.enabled or self.masking == "routing" or self.routing == "replay"):
            raise ValueError("mode: baseline moves every parameter; it has no router phase, masking or replay")
        if self.launch == "process" and self.on_deepspeed:
            raise ValueError("launch: process trains on plain PyTorch; deepspeed wants workers, launch: ray")
        if self.routing == "replay" and self.zero_stage == 3:
            raise ValueError("routing: replay keeps the first model's experts, which ZeRO-3 spreads; take stage 2")
        return self
