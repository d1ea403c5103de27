"""Every public function says in one line which argument is wrong, and what is wrong with it."""

import numpy as np
import pandas as pd
import pytest
import torch

import moe_safety
from moe_safety.errors import InputError
from moe_safety.identify.statistics import RISK_COLUMNS
from tests.families import build
from tests.identify.synthetic import make_layout

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
LABELS = torch.tensor([[-100, -100, 7, 8], [-100, -100, 11, -100]])
COUNTS, COUNTED = np.ones((2, 1, 3), int), [4, 4]
WEIGHT = torch.nn.Parameter(torch.ones(3))


@pytest.fixture(scope="module")
def model():
    return build("olmoe")


def complaint(function, *arguments, **named):
    with pytest.raises(InputError) as raised:
        function(*arguments, **named)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_page_of_public_functions_is_whole():
    """Each has a test here."""
    checked = {"inspect_model", "count_routing", "expert_gradients", "expert_effects", "selective_experts"}
    checked |= {"calculate_risk_diff_per_batch", "aggregate_batch_risk_diffs", "identify_unsafe_experts"}
    checked |= {"create_expert_mask", "BatchPreservingSampler", "LazyAdamW"}
    assert checked == set(moe_safety.__all__) - {"MoELayout"}


@pytest.mark.parametrize(
    ("given", "told"), [("olmoe", "model: is a str, and not a model"), (None, "model: is nothing, and not a model")]
)
def test_models(given, told):
    assert told in complaint(moe_safety.inspect_model, given)
    assert told in complaint(moe_safety.count_routing, given, IDS, MASK, MASK)
    assert told in complaint(moe_safety.expert_gradients, given, {})
    assert told in complaint(moe_safety.expert_effects, given, [[5]], [[6]], [[7]])
    assert told in complaint(moe_safety.selective_experts(given, [(0, 0)]).__enter__)


COUNT_ROUTING = [
    ("input_ids", IDS.tolist(), "is a list, and not a tensor"),
    ("input_ids", "ids", "is a str, and not a tensor"),
    ("input_ids", IDS[0], "has the shape [4], and not [rows, length]"),
    ("input_ids", IDS[:, :0], "is empty: its shape is [2, 0]"),
    ("input_ids", IDS.float(), "is of type float32, and token ids are whole numbers"),
    ("input_ids", IDS.bool(), "is of type bool, and token ids are whole numbers"),
    ("input_ids", IDS * 100, "holds 1100, and the model's tokens are 0 to"),
    ("input_ids", IDS - 9, "holds -9, and the model's tokens are 0 to"),
    ("attention_mask", MASK[:, :3], "has the shape [2, 3], and input_ids [2, 4]"),
    ("attention_mask", MASK.tolist(), "is a list, and not a tensor"),
    ("attention_mask", MASK * 2, "holds other numbers than 0 and 1"),
    ("counted", MASK[:1], "has the shape [1, 4], and input_ids [2, 4]"),
    ("counted", None, "is nothing, and not a tensor"),
]


@pytest.mark.parametrize(("name", "given", "told"), COUNT_ROUTING)
def test_count_routing(model, name, given, told):
    arguments = {"input_ids": IDS, "attention_mask": MASK, "counted": MASK} | {name: given}
    assert f"{name}: {told}" in complaint(moe_safety.count_routing, model, **arguments)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        *(row for row in COUNT_ROUTING if row[0] != "counted"),
        ("labels", LABELS[:, :3], "has the shape [2, 3], and input_ids [2, 4]"),
        ("labels", LABELS.T, "has the shape [4, 2], and input_ids [2, 4]"),
        ("labels", LABELS.double(), "is of type float64, and token ids are whole numbers"),
        ("labels", LABELS - 1, "holds -101, and the model's tokens are 0 to"),
        ("labels", torch.where(MASK == 0, 3, LABELS), "names tokens that attention_mask hides"),
    ],
)
def test_expert_gradients(model, name, given, told):
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS} | {name: given}
    assert f"{name}: {told}" in complaint(moe_safety.expert_gradients, model, batch)


def test_batches_of_expert_gradients(model):
    assert complaint(moe_safety.expert_gradients, model, [IDS, LABELS]) == "batch: is a list, and not a dict"
    without = {"input_ids": IDS, "attention_mask": MASK}
    assert complaint(moe_safety.expert_gradients, model, without) == "batch: has no 'labels'"


@pytest.mark.parametrize("name", ["prompts", "safe", "unsafe"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("how", ": is a str, and not a list of token-id lists"),
        ([], ": is empty"),
        ([[5], "how"], ": row 1 is a str, and not a list of token ids"),
        ([5, 6], ": row 0 is an int, and not a list of token ids"),
        ([[5], []], ": row 1 is empty"),
        ([[5], [6.5]], ", row 1: holds 6.5, which is not a whole number"),
        ([[5], [99999]], ", row 1: holds 99999, and the model's tokens are 0 to"),
    ],
)
def test_expert_effects(model, name, given, told):
    columns = {each: [[5], [6]] for each in ("prompts", "safe", "unsafe")} | {name: given}
    assert f"{name}{told}" in complaint(moe_safety.expert_effects, model, **columns)


def test_columns_of_expert_effects(model):
    told = complaint(moe_safety.expert_effects, model, [[5], [6]], [[7]], [[8], [9]])
    assert told == "safe: has 1 rows, and prompts has 2"


EXPERTS = [
    ("L00_E01", "experts: is a str, and not a list of (layer, expert) pairs"),
    (3, "experts: is an int, and not a list of (layer, expert) pairs"),
    (["L00_E01"], "experts: 'L00_E01' is not a (layer, expert) pair"),
    ([(0, 1, 2)], "experts: (0, 1, 2) is not a (layer, expert) pair"),
    ([(0, 1.5)], "experts: (0, 1.5) is not a (layer, expert) pair"),
    ([(0, "1")], "experts: (0, '1') is not a (layer, expert) pair"),
]


@pytest.mark.parametrize(
    ("given", "told"), [*EXPERTS, ([(0, 99)], "experts: L00_E99 does not exist"), ([], "names no")]
)
def test_experts(model, given, told):
    assert told in complaint(moe_safety.selective_experts(model, given).__enter__)
    assert told in complaint(moe_safety.expert_effects, model, [[5]], [[6]], [[7]], given)


@pytest.mark.parametrize(("given", "told"), [*EXPERTS, ([(0, 2)], "experts: [(0, 2)] are not among those that train")])
def test_the_mask_of_a_step(model, given, told):
    with moe_safety.selective_experts(model, [(0, 1)]) as chosen:
        assert told in complaint(chosen.set_active, given)
        chosen.set_active(np.array([[0, 1]]))


@pytest.mark.parametrize(("given", "told"), EXPERTS)
def test_create_expert_mask(given, told):
    assert complaint(moe_safety.create_expert_mask, make_layout(), given) == told
    assert "layout: is a tuple" in complaint(moe_safety.create_expert_mask, (4, 16), [(0, 1)])
    assert "layout: is a NoneType" in complaint(moe_safety.create_expert_mask, None, [(0, 1)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("counts", COUNTED, ["safe", "unsafe"]), "counts: is a str, and not numbers"),
        (([[[1, 2]], [[1]]], COUNTED, ["safe", "unsafe"]), "counts: is a list, and not numbers of one shape"),
        (
            (COUNTS[0], COUNTED, ["safe", "unsafe"]),
            "counts: has the shape [1, 3], and not [prompts, MoE layers, experts]",
        ),
        ((COUNTS - 2, COUNTED, ["safe", "unsafe"]), "counts: holds what is no count"),
        ((COUNTS * 0.5, COUNTED, ["safe", "unsafe"]), "counts: holds what is no count"),
        ((COUNTS * np.nan, COUNTED, ["safe", "unsafe"]), "counts: holds what is no count"),
        ((COUNTS * 5, COUNTED, ["safe", "unsafe"]), "counts: holds more tokens of a prompt than were counted of it"),
        ((COUNTS, [[4, 4]], ["safe", "unsafe"]), "tokens: has the shape [1, 2], and not [prompts]"),
        ((COUNTS, [4, 4, 4], ["safe", "unsafe"]), "tokens: is of 3 prompts, and counts of 2"),
        ((COUNTS, COUNTED, ["safe"]), "labels: is of 1 prompts, and counts of 2"),
        ((COUNTS, COUNTED, "safe"), "labels: is a str, and not a list of labels"),
        ((COUNTS, COUNTED, ["safe", "Unsafe"]), "labels: unknown label 'Unsafe'"),
        ((COUNTS, COUNTED, ["safe", "unsafe"], "olmoe"), "layout: is a str"),
        ((COUNTS, COUNTED, ["safe", "unsafe"], make_layout((2, 2))), "counts: (1, 3) layers and experts do not fit"),
    ],
)
def test_calculate_risk_diff_per_batch(arguments, told):
    assert told in complaint(moe_safety.calculate_risk_diff_per_batch, *arguments)


def risk():
    return moe_safety.calculate_risk_diff_per_batch(COUNTS, COUNTED, ["safe", "unsafe"])


def test_aggregate_batch_risk_diffs():
    def told(given):
        return complaint(moe_safety.aggregate_batch_risk_diffs, given)

    assert told([]) == "tables: holds no batch to aggregate"
    assert told(risk()) == "tables: is a DataFrame, and not a list of tables"
    assert told([risk(), "b"]) == "tables, number 1: is a str, and not a table of pandas"
    assert told([risk().drop(columns="a_safe")]) == "tables, number 0: has no column 'a_safe'"
    assert told([pd.DataFrame(columns=list(RISK_COLUMNS))]) == "tables, number 0: has no row"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"table": [1, 2]}, "table: is a list, and not a table of pandas"),
        ({"score": "guilt"}, "table: has no column 'guilt'"),
        ({"score": "Layer_Expert"}, "table: holds what is no number in 'Layer_Expert'"),
        ({"threshold": "0.05"}, "threshold: is '0.05', and not a number from 0 on"),
        ({"top_k": 1.5}, "top_k: is 1.5, and not a whole number from 0 on"),
        ({"top_k": -1}, "top_k: is -1, and not a whole number from 0 on"),
        ({"top_k": None}, "top_k: is None, and not a whole number from 0 on"),
        ({"threshold": -0.1}, "threshold: is -0.1, and not a number from 0 on"),
    ],
)
def test_identify_unsafe_experts(named, told):
    assert complaint(moe_safety.identify_unsafe_experts, **({"table": risk()} | named)) == told


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"batch_idx": "0011"}, "batch_idx: is a str, and not a list of whole numbers"),
        ({"batch_idx": [0, 0.5]}, "batch_idx: holds 0.5, which is not a whole number"),
        ({"world": 0}, "world: is 0, and not a whole number from 1 on"),
        ({"rank": 2, "world": 2}, "rank: is 2, and the last of 2 workers is 1"),
        ({"rank": -1}, "rank: is -1, and not a whole number from 0 on"),
        ({"seed": "42"}, "seed: is '42', and not a whole number from 0 on"),
    ],
)
def test_sampler(named, told):
    assert complaint(moe_safety.BatchPreservingSampler, **({"batch_idx": [0, 0, 1]} | named)) == told


def test_epochs_of_a_sampler():
    sampler = moe_safety.BatchPreservingSampler(torch.tensor([0, 0, 1]))
    assert complaint(sampler.set_epoch, "1") == "epoch: is '1', and not a whole number from 0 on"
    assert sorted(sampler) == [[0, 1], [2]]


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"params": WEIGHT}, "params: is a Parameter, and not a list of parameters"),
        ({"params": []}, "params: holds no parameter"),
        ({"params": ["weight"]}, "params: holds a str, which is no parameter"),
        ({"lr": -1e-3}, "lr: is -0.001, and not a number from 0 on"),
        ({"lr": float("nan")}, "lr: is nan, and not a number from 0 on"),
        ({"lr": "1e-3"}, "lr: is '1e-3', and not a number from 0 on"),
        ({"betas": 0.9}, "betas: is 0.9, and not two numbers"),
        ({"betas": (0.9, 1.0)}, "betas: is 1.0, and not a number from 0 on and below 1"),
        (
            {"betas": (0.9, 0.9999)},
            "betas: has 0.9999, whose moment lacks weight after 32767 steps too, and no more are counted",
        ),
        ({"eps": -1e-8}, "eps: is -1e-08, and not a number from 0 on"),
        ({"weight_decay": -0.1}, "weight_decay: is -0.1, and not a number from 0 on"),
    ],
)
def test_optimizer(named, told):
    assert complaint(moe_safety.LazyAdamW, **({"params": [WEIGHT]} | named)) == told


def test_what_is_right_passes(model):
    """Arrays, tuples and tensors are as good as lists."""
    effects = moe_safety.expert_effects(model, ((5, 6),), [np.array([7])], [torch.tensor([8])], np.array([[0, 1]]))
    assert torch.isfinite(effects[0, 0, 1])
    assert moe_safety.count_routing(model, IDS, MASK.bool(), MASK).sum() > 0
    table = moe_safety.calculate_risk_diff_per_batch(torch.ones(2, 1, 3), torch.tensor([4, 4]), ("safe", "unsafe"))
    assert moe_safety.identify_unsafe_experts(table, None, np.int64(2)) == [(0, 0), (0, 1)]
