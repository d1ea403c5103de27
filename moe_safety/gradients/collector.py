"""What an actor of `gradients` does: one batch's gradient magnitudes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from moe_safety.config import GradientsConfig, ModelConfig
from moe_safety.gradients.table import gradients_schema
from moe_safety.jobs import pack
from moe_safety.jobs.memory import is_out_of_memory
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import Magnitudes, gradient_magnitudes
from moe_safety.models.io import kept_model
from moe_safety.models.text.answer_losses import Rows, make_rows
from moe_safety.models.text.packed_attention import packing


@dataclass
class GradientCollector:
    """Handles one batch, which is never divided: |·| of a sum is not the sum of |·|."""

    model: PreTrainedModel
    settings: GradientsConfig
    divisible: bool = False
    layout: MoELayout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = inspect_model(self.model)
        self.device = self.model.get_input_embeddings().weight.device

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        prompts, targets = rows["prompt"].to_pylist(), rows["target"].to_pylist()
        with packing(self.model) as packed:
            found = self._collect(prompts, targets, packed, notes)
        columns = {
            "batch_idx": [rows["batch_idx"][0].as_py()],
            "tokens": [sum(len(target) for target in targets)],
            "scores": [found.scores().flatten().tolist()],
            "scores_l2": [found.scores_l2().flatten().tolist()],
            "expert_tokens": [found.tokens.long().flatten().tolist()],
        }
        return pa.table(columns, schema=gradients_schema(self.layout))

    def _collect(
        self, prompts: list[list[int]], targets: list[list[int]], packed: bool, notes: dict[str, Any]
    ) -> Magnitudes:
        sizes = [len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True)]
        budget = self.settings.micro_batch_tokens or len(sizes) * max(sizes)
        while True:
            groups = pack(sizes, budget)
            if len(groups) > 1:
                notes["micro_batches"] = len(groups)
            try:
                pieces = [self._rows(group, prompts, targets, packed) for group in groups]
                return gradient_magnitudes(
                    self.model, pieces, layout=self.layout, checkpointing=self.settings.checkpointing
                )
            except Exception as error:
                if not is_out_of_memory(error) or len(groups) == len(sizes):
                    raise
            # Out of the failed attempt's frames, so that what they held is freed first.
            budget = budget // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _rows(self, group: np.ndarray, prompts: list[list[int]], targets: list[list[int]], packed: bool) -> Rows:
        return make_rows([prompts[row] for row in group], [targets[row] for row in group], self.device, packed=packed)

    def tokens(self, rows: pa.Table) -> int:
        """The tokens of an item's prompts and targets."""
        return sum(len(row) for name in ("prompt", "target") for row in rows[name].to_pylist())


def build_collector(model: ModelConfig, settings: GradientsConfig) -> GradientCollector:
    """The handler of gradients, its model loaded."""
    return GradientCollector(kept_model(model, settings.gpus_per_replica), settings)
