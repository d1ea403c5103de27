"""One batch's part, in this process."""

import pyarrow as pa
import pytest

from moe_safety.config import GradientsConfig
from moe_safety.gradients.collector import GradientCollector
from moe_safety.gradients.plan import PLAN_SCHEMA
from moe_safety.gradients.table import fold
from moe_safety.models.experts import use_our_experts
from tests.families import build

LENGTHS = [(2, 2), (16, 5), (7, 3), (10, 2)]
"""Of prompts and targets: 47 tokens, and 37 places of padding in one rectangle."""


def rows():
    made = [
        {
            "batch_idx": 0,
            "prompt_id": f"p{number}",
            "prompt": [3 + (7 * number + place) % 80 for place in range(prompt)],
            "target": [5 + (11 * number + place) % 80 for place in range(target)],
        }
        for number, (prompt, target) in enumerate(LENGTHS)
    ]
    return pa.Table.from_pylist(made, schema=PLAN_SCHEMA)


@pytest.fixture(scope="module")
def model():
    return use_our_experts(build("mixtral"))


@pytest.mark.parametrize("budget", [None, 42, 21])
def test_experts_receive_the_batch_s_tokens_and_no_padding(model, budget):
    collector = GradientCollector(model, GradientsConfig(micro_batch_tokens=budget))
    notes = {}
    part = collector(rows(), notes)
    received = pa.FixedSizeListArray.flatten(part["expert_tokens"].combine_chunks()).to_numpy()
    top_k = collector.layout.layers[0].top_k
    assert received.reshape(collector.layout.shape).sum(axis=1).tolist() == [47 * top_k] * collector.layout.n_moe_layers
    assert notes.get("micro_batches", 1) == {None: 1, 42: 2, 21: 3}[budget]


def test_rates_per_token_do_not_depend_on_how_a_batch_is_cut(model):
    def per_token(budget):
        collector = GradientCollector(model, GradientsConfig(micro_batch_tokens=budget))
        return fold([collector(rows(), {})], collector.layout)["gradient_per_token"].to_numpy()

    whole = per_token(None)
    assert (whole > 0).any()
    assert per_token(21) == pytest.approx(whole, rel=1e-4)
