"""A Hugging Face sequence classifier as a judge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification

from moe_safety.config.judge import ClassifierConfig
from moe_safety.errors import InputError
from moe_safety.judges.hub import HubJudge, blaming, load_judge
from moe_safety.judges.quoting import Template
from moe_safety.judges.tokens import Encoder, frame
from moe_safety.judges.verdict import Verdict


class ClassifierJudge(HubJudge):
    """The most probable label decides."""

    def __init__(self, config: ClassifierConfig, key: str) -> None:
        self.config, self.batch_size = config, config.batch_size
        self.model, self.tokenizer = load_judge(AutoModelForSequenceClassification, config, f"{key}.model")
        self.labels = [str(label) for _, label in sorted(self.model.config.id2label.items())]
        self._check_labels(key)
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        before, after = frame(self.tokenizer)
        length = min(config.max_length, self.tokenizer.model_max_length)
        with blaming(config.model, f"{key}.template"):
            template = Template(config.template, fenced=False)
            self.encoder = Encoder(self.tokenizer, template, length, before=before, after=after)

    @torch.inference_mode()
    def _judge(self, rows: list[list[int]]) -> list[Verdict]:
        padded = self.tokenizer.pad({"input_ids": rows}, padding_side="right", return_tensors="pt")
        logits = self.model(**padded.to(self.model.device)).logits
        return [self._read(row) for row in logits.double().softmax(dim=-1).tolist()]

    def _read(self, probabilities: Sequence[float]) -> Verdict:
        probability, label = max(zip(probabilities, self.labels, strict=True))
        said = f"{label} {probability:.2f}"
        # Written so that what is not a number fails too.
        if not probability >= self.config.min_probability:
            return Verdict("unparsed", f"{said} is not sure enough")
        if label not in self.config.labels:
            return Verdict("unparsed", f"{said} is no label of the configuration")
        return Verdict(self.config.labels[label], said)

    def _check_labels(self, key: str) -> None:
        has = f"its labels are {', '.join(self.labels)}"
        if len(self.labels) < 2:
            raise InputError(f"is not a classifier: {has}", file=self.config.model, key=f"{key}.model")
        if strange := next((label for label in self.config.labels if label not in self.labels), None):
            raise InputError(f"has no label '{strange}': {has}", file=self.config.model, key=f"{key}.labels")
