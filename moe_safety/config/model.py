"""`model`: the base model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PrivateAttr

from moe_safety.config.base import Place, Section


class ModelConfig(Section):
    """The section `model`: which model, and how it is loaded."""

    name: Place
    """A folder, a URI of one (`s3://bucket/model`) or a hub id of a mixture-of-experts chat model, or `demo` for the
    built-in one."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The type weights are loaded in; `auto` keeps the checkpoint's own."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off, such a model is refused."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Settings of the model's chat template, such as `{enable_thinking: false}`."""

    _delta: str | None = PrivateAttr(None)

    @property
    def delta(self) -> str | None:
        """The file of what training changed of the model, a path or a URI. No configuration names one: the program
        does, for what is made of the base."""
        return self._delta

    def with_delta(self, delta: str | None) -> ModelConfig:
        """The same model with what a delta's file changes of it, or without."""
        changed = self.model_copy()
        changed._delta = delta
        return changed

    @property
    def identity(self) -> dict[str, object]:
        """What decides, beside its files, how the model reads and answers."""
        return {"dtype": self.dtype, "chat_template_kwargs": self.chat_template_kwargs}
