import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.config import IdentifyConfig
from moe_safety.errors import InputError
from moe_safety.identify import Experts, Selection, read_selection
from moe_safety.identify.overlap import agreement_table, overlap_table, serving_table
from moe_safety.identify.select import Rule, Scored, draw_like, select
from moe_safety.rundir import RunDir
from tests.identify.synthetic import make_layout

EXPERTS = Experts.of_layout(make_layout((8, 8, 8), first=1))
SCORES = np.linspace(-0.2, 0.5, 24)[np.random.default_rng(0).permutation(24)]
BATCH_SCORES = np.stack([SCORES, -SCORES])


def chosen(seed=0, batch_scores=BATCH_SCORES, **settings):
    given = IdentifyConfig(**{"method": "routing", "matches": "routing"} | settings)
    own = None if batch_scores is None else Rule.of(given).choose(batch_scores)
    return select(given, EXPERTS, [0, 5], Scored(SCORES, own) if given.ranking else None, seed)


@given(
    scores=st.lists(st.sampled_from([-0.2, 0.0, 0.1, 0.2, 0.5, float("nan")]), min_size=1, max_size=12),
    threshold=st.sampled_from([None, -1.0, 0.0, 0.1, 0.3]),
    top_k=st.integers(1, 14),
)
def test_a_rule_equals_plain_sorting(scores, threshold, top_k):
    above = [place for place, score in enumerate(scores) if threshold is None or score > threshold]
    above = [place for place in above if scores[place] == scores[place]]
    expected = sorted(above, key=lambda place: (-scores[place], place))[:top_k]
    (found,) = Rule(threshold, top_k).choose(np.array([scores]))
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("top_p", "threshold", "expected"),
    [(0.5, 0.0, [2]), (0.51, 0.0, [2, 0]), (0.8, 0.0, [2, 0]), (1.0, 0.0, [2, 0, 4]), (1.0, 0.25, [2, 0])],
)
def test_top_p_takes_the_fewest_that_hold_the_share(top_p, threshold, expected):
    scores = np.array([[0.3, -0.4, 0.5, 0.0, 0.2]])
    assert Rule(threshold, 1, top_p).choose(scores)[0].tolist() == expected


def test_top_p_without_a_positive_score_takes_none():
    assert Rule(-1.0, 3, 0.5).choose(np.array([[-0.3, 0.0, np.nan]]))[0].tolist() == []


def test_routing_selects_each_batch_by_its_own_scores():
    everywhere, per_batch = chosen(threshold=0.1, top_k=4)
    best = np.argsort(-SCORES)[:4]
    assert everywhere == per_batch[0] == EXPERTS.pairs(best)
    # The second batch has the scores turned round, so that only one in ten is above 0.1.
    assert per_batch[5] == EXPERTS.pairs(np.argsort(SCORES)[: (SCORES < -0.1).sum()])
    assert 0 < len(per_batch[5]) < 5


@pytest.mark.parametrize("method", ["random", "random_layer_matched"])
def test_controls_are_seeded_and_the_same_for_each_batch(method):
    everywhere, per_batch = chosen(method=method, threshold=0.1, top_k=6)
    assert per_batch == {0: everywhere, 5: everywhere}
    assert len(set(everywhere)) == len(everywhere) == 6
    assert everywhere == chosen(method=method, threshold=0.1, top_k=6)[0]
    others = [chosen(seed, method=method, threshold=0.1, top_k=6)[0] for seed in range(1, 6)]
    assert any(other != everywhere for other in others)
    routed = chosen(threshold=0.1, top_k=6)[0]
    assert everywhere != routed


def test_layer_matched_has_the_routing_selection_s_number_in_each_layer():
    routed = chosen(threshold=0.3, top_k=24)[0]
    for seed in range(5):
        matched = chosen(seed, method="random_layer_matched", threshold=0.3, top_k=24)[0]
        assert sorted(layer for layer, _ in matched) == sorted(layer for layer, _ in routed)
    assert chosen(method="random_layer_matched", threshold=0.9, top_k=24)[0] == []


@pytest.mark.parametrize("scores", [SCORES, -SCORES])
def test_a_control_is_as_large_as_what_it_controls(scores):
    """Whatever the rule of the selection was: in each layer, or as a whole."""
    like = EXPERTS.pairs(np.argsort(scores)[:7])
    matched, per_batch = draw_like(like, "random_layer_matched", EXPERTS, [0, 5], 3)
    assert sorted(layer for layer, _ in matched) == sorted(layer for layer, _ in like)
    assert per_batch == {0: matched, 5: matched}
    assert set(matched) != set(like)
    assert len(set(draw_like(like, "random", EXPERTS, [0, 5], 3)[0])) == 7


def test_causal_selects_the_guilty_sign_alone():
    scored = Scored(np.array([0.4, -0.7, 0.0, 0.1, np.nan]))

    def best(**options):
        return select(IdentifyConfig(**options), Experts.of_shape(1, 5), [0], scored, 0)[0]

    assert best(method="causal", top_k=4) == best(top_k=4) == [(0, 0), (0, 3)]
    with pytest.raises(ValueError, match="min_score -1 is below 0, where effect finds no guilt"):
        best(method="causal", top_k=4, min_score=-1.0)
    assert best(method="causal", top_k=4, min_score=0.2) == [(0, 0)]
    assert best(method="gradient", top_k=4) == [(0, 0), (0, 3), (0, 2), (0, 1)]
    assert len(best(method="random_layer_matched", top_k=4)) == 2, "as many as causal"


def test_random_has_top_k_experts_and_with_top_p_as_many_as_the_routing():
    assert len(chosen(method="random", threshold=0.9, top_k=7)[0]) == 7
    routed = chosen(top_p=0.4, threshold=0.0)[0]
    assert 1 < len(routed) < 24
    assert len(chosen(method="random", top_p=0.4, threshold=0.0)[0]) == len(routed)


def test_another_methods_table_is_global_for_each_batch():
    experts, scored = Experts.of_shape(2, 2), Scored(np.array([-5.0, 9.0, np.nan, 2.0]))

    def best(**options):
        return select(IdentifyConfig(method="gradient", **options), experts, [0, 1], scored, 0)

    assert best(top_k=2) == ([(0, 1), (1, 1)], {0: [(0, 1), (1, 1)], 1: [(0, 1), (1, 1)]})
    assert best(top_k=4)[0] == [(0, 1), (1, 1), (0, 0)], "what was not measured is never chosen"
    assert best(top_k=3, min_score=2.0)[0] == [(0, 1)]


def test_batches_with_scores_of_their_own_have_selections_of_their_own():
    experts = Experts.of_shape(1, 3)
    scored = Scored(np.array([3.0, 2.0, 1.0]), Rule(None, 1).choose(np.array([[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]])))
    settings = IdentifyConfig(method="gradient", top_k=1)
    assert select(settings, experts, [7, 9], scored, 0) == ([(0, 0)], {7: [(0, 2)], 9: [(0, 0)]})


def test_agreement_against_hand_values():
    experts = Experts.of_shape(2, 3)
    scores = {
        "routing": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        "gradient": np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
        "causal": np.array([1.0, 2.0, 3.0, np.nan, np.nan, 9.0]),
    }
    rows = {(row["a"], row["b"], row["layer"]): row for row in agreement_table(scores, experts, 4).to_pylist()}
    against = rows["routing", "gradient", None]
    assert (against["k"], against["jaccard"], against["spearman"]) == (4, 2 / 6, -1.0)
    with_gaps = rows["routing", "causal", None]
    assert (with_gaps["experts"], with_gaps["jaccard"], with_gaps["spearman"]) == (4, 1.0, 1.0)
    assert rows["routing", "gradient", 1]["jaccard"] == 1 / 3
    assert rows["routing", "causal", 1]["spearman"] is None, "one expert has no ranks to compare"


def test_a_selection_survives_its_file(tmp_path):
    selection = Selection(
        method="routing",
        score="risk_diff",
        threshold=0.05,
        top_k=3,
        top_p=None,
        model="abc",
        experts=[(3, 1), (1, 0)],
        per_batch={0: [(1, 0)], 7: [], 10: [(3, 1), (2, 2)]},
        inputs={"batches.parquet": "def"},
    )
    run = RunDir(str(tmp_path))
    run.write_json("selection.json", selection.to_json())
    assert read_selection(run) == selection
    assert run.read_json("selection.json")["global"] == [[3, 1], [1, 0]]
    assert run.read_json("selection.json")["per_batch"]["10"] == [[3, 1], [2, 2]]
    assert selection.union() == [(1, 0), (2, 2), (3, 1)]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"global": [[1]]}', b'{"global": [], "per_batch": {"x": []}}'])
def test_what_is_not_a_selection_is_refused(tmp_path, text):
    run = RunDir(str(tmp_path))
    run.write_bytes("selection.json", text)
    with pytest.raises(InputError, match="selection"):
        read_selection(run)


def test_overlaps_by_hand():
    per_batch = {0: [(1, 0), (1, 1), (2, 0)], 1: [(1, 1), (2, 0), (3, 3), (3, 4)], 2: [], 3: []}
    rows = overlap_table(EXPERTS, per_batch, {"red": [(1, 0)], "blue": [(1, 0)]}).to_pylist()
    assert rows[0] == {
        "kind": "batch",
        "a": "0",
        "b": "1",
        "size_a": 3,
        "size_b": 4,
        "shared": 2,
        "jaccard": 2 / 5,
    }
    found = {(row["kind"], row["a"], row["b"]): row["jaccard"] for row in rows}
    assert len(rows) == 6 + 1
    assert found["batch", "2", "3"] is None
    assert found["batch", "0", "2"] == 0
    assert found["category", "red", "blue"] == 1


def test_which_experts_serve_several():
    per_batch = {0: [(1, 0), (1, 1)], 1: [(1, 1)], 2: [(3, 7)]}
    rows = serving_table(EXPERTS, [(1, 1), (2, 2)], per_batch, {"red": [(1, 0)], "blue": [(1, 0), (3, 0)]}).to_pylist()
    found = {row["Layer_Expert"]: (row["selected"], row["batches"], row["categories"]) for row in rows}
    assert found == {
        "L01_E00": (False, 1, ["red", "blue"]),
        "L01_E01": (True, 2, []),
        "L02_E02": (True, 0, []),
        "L03_E00": (False, 0, ["blue"]),
        "L03_E07": (False, 1, []),
    }
