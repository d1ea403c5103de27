import numpy as np
import pandas as pd
import pytest
import torch

from moe_safety.errors import InputError
from moe_safety.identify.statistics import (
    aggregate_batch_risk_diffs,
    calculate_risk_diff_per_batch,
    create_expert_mask,
    identify_unsafe_experts,
)
from tests.identify.synthetic import make_layout

COLUMNS = ["layer", "expert", "a_safe", "n_safe", "a_unsafe", "n_unsafe"]
COLUMNS += ["a_safe_n", "a_unsafe_n", "risk_diff", "Layer_Expert"]


def batch(safe, unsafe, kind=np.array):
    """One layer of two experts; a side is a list of (tokens, counts)."""
    rows = [*safe, *unsafe]
    counts = kind([[counts] for _, counts in rows])
    labels = ["safe"] * len(safe) + ["unsafe"] * len(unsafe)
    return calculate_risk_diff_per_batch(counts, kind([tokens for tokens, _ in rows]), labels)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_batch_by_hand(kind):
    table = batch([(10, [2, 8]), (30, [10, 20])], [(20, [15, 5])], kind)
    assert list(table.columns) == COLUMNS
    first, second = table.to_dict("records")
    assert first == {
        "layer": 0,
        "expert": 0,
        "a_safe": 12,
        "n_safe": 40,
        "a_unsafe": 15,
        "n_unsafe": 20,
        "a_safe_n": 0.3,
        "a_unsafe_n": 0.75,
        "risk_diff": 0.75 - 0.3,
        "Layer_Expert": "L00_E00",
    }
    assert (second["a_safe"], second["a_unsafe"], second["risk_diff"]) == (28, 5, 0.25 - 0.7)
    assert all(pd.api.types.is_integer_dtype(table[name]) for name in ("a_safe", "n_safe", "a_unsafe", "n_unsafe"))


def test_a_layout_names_decoder_layers_and_leaves_out_experts_that_do_not_exist():
    layout = make_layout((2, 3), first=7)
    counts = np.arange(12).reshape(2, 2, 3)
    table = calculate_risk_diff_per_batch(counts, [20, 20], ["safe", "unsafe"], layout)
    assert table["Layer_Expert"].tolist() == ["L07_E00", "L07_E01", "L08_E00", "L08_E01", "L08_E02"]
    assert table["a_safe"].tolist() == [0, 1, 3, 4, 5]
    assert table["a_unsafe"].tolist() == [6, 7, 9, 10, 11]


def test_large_expert_numbers_keep_their_digits():
    table = calculate_risk_diff_per_batch(np.ones((2, 1, 130), int), [5, 5], ["safe", "unsafe"])
    assert table["Layer_Expert"].iloc[-1] == "L00_E129"


def test_harmless_prompts_do_not_count():
    counts, labels = np.full((4, 1, 2), 3), ["safe", "benign", "unsafe", "control"]
    table = calculate_risk_diff_per_batch(counts, [10, 1000, 20, 1000], labels)
    assert table["n_safe"].tolist() == [10, 10]
    assert table["a_unsafe_n"].tolist() == [0.15, 0.15]


def test_a_side_without_tokens_has_no_rate_and_says_so():
    table = batch([(0, [0, 0])], [(20, [15, 5])])
    assert table["n_safe"].tolist() == [0, 0]
    assert table[["a_safe_n", "risk_diff"]].isna().all(axis=None)
    assert table.drop(columns=["a_safe_n", "risk_diff"]).notna().all(axis=None)


def test_a_prompt_without_tokens_changes_nothing_beside_others():
    one = batch([(10, [2, 8])], [(20, [15, 5])])
    pd.testing.assert_frame_equal(one, batch([(10, [2, 8]), (0, [0, 0])], [(20, [15, 5])]))


def test_pooled_and_mean_of_batches_differ_where_tokens_do():
    tables = [
        batch([(10, [1, 9])], [(10, [5, 5])]),  # difference of the first expert 0.5 - 0.1 = 0.4
        batch([(90, [45, 45])], [(30, [3, 27])]),  # 0.1 - 0.5 = -0.4
    ]
    first = aggregate_batch_risk_diffs(tables).iloc[0]
    assert (first["a_safe"], first["n_safe"], first["a_unsafe"], first["n_unsafe"]) == (46, 100, 8, 40)
    assert first["risk_diff"] == pytest.approx(0.2 - 0.46)
    assert first["risk_diff_mean"] == pytest.approx(0)
    assert first["risk_diff_std"] == pytest.approx(np.std([0.4, -0.4], ddof=1))


def test_the_mean_is_over_batches_that_have_a_difference():
    tables = [batch([(0, [0, 0])], [(10, [5, 5])]), batch([(10, [1, 9])], [(10, [5, 5])])]
    first = aggregate_batch_risk_diffs(tables).iloc[0]
    assert first["risk_diff_mean"] == pytest.approx(0.4)
    assert first["risk_diff"] == pytest.approx(0.5 - 0.1)
    assert np.isnan(first["risk_diff_std"])


def test_tables_in_any_row_order_aggregate_alike():
    tables = [batch([(10, [1, 9])], [(10, [5, 5])]), batch([(90, [45, 45])], [(30, [3, 27])])]
    turned = [tables[0].iloc[::-1], tables[1]]
    pd.testing.assert_frame_equal(aggregate_batch_risk_diffs(tables), aggregate_batch_risk_diffs(turned))


def table_of(scores, name="risk_diff"):
    """One expert a row, three a layer."""
    place = np.arange(len(scores))
    return pd.DataFrame({"layer": place // 3, "expert": place % 3, name: scores})


def test_the_best_stand_in_the_last_layer():
    table = table_of([0.06, 0.07, 0.08, 0.10, 0.09, 0.11, 0.50, 0.90, 0.70])
    assert identify_unsafe_experts(table, 0.05, 3) == [(2, 1), (2, 2), (2, 0)]


def test_threshold_and_top_k_together():
    table = table_of([0.3, 0.05, 0.1, 0.2, 0.4, -0.9])
    assert identify_unsafe_experts(table, 0.05, 2) == [(1, 1), (0, 0)]
    assert identify_unsafe_experts(table, 0.15, 50) == [(1, 1), (0, 0), (1, 0)]
    # Strictly above: 0.05 itself is out.
    assert (0, 1) not in identify_unsafe_experts(table, 0.05, 6)
    assert identify_unsafe_experts(table, 0.9, 6) == []


def test_ties_go_to_the_lower_layer_then_expert_in_any_row_order():
    table = table_of([0.2, 0.3, 0.2, 0.3, 0.2, 0.3])
    expected = [(0, 1), (1, 0), (1, 2), (0, 0), (0, 2)]
    for seed in range(5):
        assert identify_unsafe_experts(table.sample(frac=1, random_state=seed), 0.05, 5) == expected


def test_undefined_scores_are_never_chosen():
    table = table_of([np.nan, 0.1, np.nan, 0.2])
    assert identify_unsafe_experts(table, None, 4) == [(1, 0), (0, 1)]


def test_another_score_and_its_absence():
    table = table_of([0.1, 0.3, 0.2], "score")
    assert identify_unsafe_experts(table, None, 2, score="score") == [(0, 1), (0, 2)]
    with pytest.raises(InputError, match="no column 'risk_diff'"):
        identify_unsafe_experts(table, 0.05, 2)


def test_a_table_of_several_batches_is_refused():
    table = table_of([0.1, 0.3, 0.2])
    with pytest.raises(InputError, match="aggregate the batches first"):
        identify_unsafe_experts(pd.concat([table, table]), 0.05, 2)


def test_a_mask_has_exactly_its_experts():
    mask = create_expert_mask(make_layout((2, 3), first=7), [(8, 2), (7, 0)])
    assert mask.dtype == bool
    assert mask.tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize("expert", [(7, 2), (6, 0), (8, -1)])
def test_an_expert_that_does_not_exist_is_an_error(expert):
    with pytest.raises(InputError, match=f"no expert {expert[1]} in layer {expert[0]}"):
        create_expert_mask(make_layout((2, 3), first=7), [expert])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((np.zeros((2, 1, 2)), [1, 1], ["safe", "odd"]), "unknown label 'odd'"),
        ((np.zeros((2, 1, 2)), [1], ["safe", "unsafe"]), "not of the same prompts"),
        ((np.zeros((1, 1, 2)), [1], ["safe"], make_layout((2, 3))), "do not fit the layout"),
    ],
)
def test_bad_arguments(arguments, complaint):
    with pytest.raises(InputError, match=complaint):
        calculate_risk_diff_per_batch(*arguments)


def test_no_batch_and_batches_of_other_experts():
    with pytest.raises(InputError, match="no batch"):
        aggregate_batch_risk_diffs([])
    one = batch([(10, [1, 9])], [(10, [5, 5])])
    with pytest.raises(InputError, match="not about the same experts"):
        aggregate_batch_risk_diffs([one, one.iloc[:1]])
