import pytest

from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.arms import arms_of
from moe_safety.evaluate.comparison import page, with_spread
from moe_safety.pipeline import _left_out
from moe_safety.train.arms import arm_name
from tests.evaluate.test_gate import arm


def config(*flags):
    return load_config("configs/demo.yaml", ["run_dir=runs/none", *flags])


def test_every_arm_trains_what_its_name_says():
    every = arms_of(config())
    assert len(every) == 10
    for each in every:
        if each.trains:
            assert arm_name(each.config) == each.name == each.kind
    places = {each.kind: each.place for each in every}
    assert places["selective-routing"] is places["steering"] is places["baseline"] is None
    assert places["selective-causal"] == places["selective-causal+router"] == "causal"
    assert places["random-layer-matched"] == "random_layer_matched"


def test_a_score_belongs_to_the_method_it_was_set_for():
    (routing, gradient) = arms_of(
        config("compare.arms=[selective-routing, selective-gradient]", "identify.score=risk_diff_control")
    )
    assert routing.config.identify.score == "risk_diff_control"
    assert gradient.config.identify.ranked_by == "gradient"


def test_a_least_score_belongs_to_the_method_it_was_set_for():
    arms = arms_of(config("identify.method=causal", "identify.min_score=0.5"))
    lowest = {each.kind: each.config.identify.lowest for each in arms}
    assert lowest["selective-causal"] == 0.5
    assert lowest["selective-gradient"] is None


def test_controls_are_matched_to_the_runs_own_selection():
    def controls(*flags):
        return {each.kind: each.control_of for each in arms_of(config(*flags)) if each.control_of}

    both = ("random", "random-layer-matched")
    for method in ("routing", "gradient", "causal"):
        assert controls(f"identify.method={method}") == dict.fromkeys(both, f"selective-{method}")
    assert controls("identify.method=random") == {"random-layer-matched": "random"}
    matched = ["identify.method=random_layer_matched", "identify.matches=gradient"]
    assert controls(*matched) == {"random": "random-layer-matched", "random-layer-matched": "selective-gradient"}


def test_further_seeds_repeat_what_hangs_on_a_seed():
    flags = ["compare.seeds=[42, 7]", "compare.arms=[base, selective-causal, random, steering]"]
    names = {each.name: each for each in arms_of(config(*flags))}
    assert list(names) == ["selective-causal", "random", "steering", "selective-causal.seed-7", "random.seed-7"]
    assert names["selective-causal.seed-7"].config.seed == 7
    # The scores are the same for every seed; what is drawn by chance is drawn again.
    assert names["selective-causal.seed-7"].place == "causal"
    assert names["random.seed-7"].place == "random.seed-7"


def test_the_spread_stands_beside_the_run_s_own_seed():
    first, other = arm("random", (6, 100)), arm("random", (2, 100))
    found = with_spread(first, {7: other}, 42)
    assert found["asr"] == first["asr"]
    assert found["repeats"]["seeds"] == [42, 7]
    assert found["repeats"]["asr"]["values"] == [0.06, 0.02]
    assert found["repeats"]["asr"]["mean"] == pytest.approx(0.04)
    assert found["repeats"]["asr"]["std"] == pytest.approx(0.0283, abs=1e-4)
    assert "0.040 ± 0.028" in page([arm("base"), found], "test")


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        ([], {"train", "evaluate"}),
        (["compare.arms=[]"], {"compare"}),
        (["compare.arms=[random]"], set()),
        (["evaluate.model_path=elsewhere"], {"train"}),
    ],
)
def test_run_leaves_to_compare_what_it_does_anyway(flags, left_out):
    assert _left_out(config(*flags)) == left_out


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("compare.arms=[random, random]", "an arm is named twice"),
        ("compare.arms=[selective]", "base"),
        ("compare.parallel=0", r"compare\.parallel: is at least 1"),
        ("evaluate.output_name=../x", "match"),
    ],
)
def test_what_makes_no_sense_is_refused(flag, complaint):
    with pytest.raises(InputError, match=complaint):
        config(flag)
