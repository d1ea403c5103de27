import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from moe_safety.arms import arm_of, seeded_arms
from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.ability import benign_exact
from moe_safety.evaluate.comparison import page
from moe_safety.evaluate.measures import measures
from moe_safety.evaluate.seeds import with_repeats
from moe_safety.pipeline import STAGES
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm


def config(*flags):
    return load_config("configs/demo.yaml", ["run_dir=runs/none", *flags])


def test_every_arm_trains_what_its_name_says():
    every = seeded_arms(config())
    assert len(every) == 10
    for each in every:
        if each.arm.phases:
            assert arm_of(each.config).name == each.name == each.kind
    places = {each.kind: each.place for each in every}
    assert places["selective-routing"] is places["steering"] is places["baseline"] is None
    assert places["selective-causal"] == places["selective-causal+router"] == "causal"
    assert places["random-layer-matched"] == "random_layer_matched"


def test_a_score_belongs_to_the_method_it_was_set_for():
    (routing, gradient) = seeded_arms(
        config("compare.arms=[selective-routing, selective-gradient]", "identify.score=risk_diff_control")
    )
    assert routing.config.identify.score == "risk_diff_control"
    assert gradient.config.identify.ranked_by == "gradient"


def test_a_least_score_belongs_to_the_method_it_was_set_for():
    arms = seeded_arms(config("identify.method=causal", "identify.min_score=0.5"))
    lowest = {each.kind: each.config.identify.lowest for each in arms}
    assert lowest["selective-causal"] == 0.5
    assert lowest["selective-gradient"] is None


def test_controls_are_matched_to_the_runs_own_selection():
    def controls(*flags):
        return {each.kind: each.control_of for each in seeded_arms(config(*flags)) if each.control_of}

    both = ("random", "random-layer-matched")
    for method in ("routing", "gradient", "causal"):
        assert controls(f"identify.method={method}") == dict.fromkeys(both, f"selective-{method}")
    assert controls("identify.method=random") == {"random-layer-matched": "random"}
    matched = ["identify.method=random_layer_matched", "identify.matches=gradient"]
    assert controls(*matched) == {"random": "random-layer-matched", "random-layer-matched": "selective-gradient"}


def test_further_seeds_repeat_what_hangs_on_a_seed():
    flags = ["compare.seeds=[42, 7]", "compare.arms=[base, selective-causal, random, steering]"]
    names = {each.name: each for each in seeded_arms(config(*flags))}
    assert list(names) == ["selective-causal", "random", "steering", "selective-causal.seed-7", "random.seed-7"]
    assert names["selective-causal.seed-7"].config.seed == 7
    # The scores are the same for every seed; what is drawn by chance is drawn again.
    assert names["selective-causal.seed-7"].place == "causal"
    assert names["random.seed-7"].place == "random.seed-7"


def answers(complied, unparsed=0, later=0):
    """Two forms of each of five goals, some answered; one attack of another wrapper, answered or not."""
    rows = [("unsafe", f"g{place // 2}", False) for place in range(10)]
    rows += [(label, f"{label}{place}", False) for label in ("safe", "benign", "control") for place in range(2)]
    verdicts = ["complied"] * complied + ["refused"] * (10 - complied - unparsed) + ["unparsed"] * unparsed
    verdicts += ["refused"] * 2 + ["complied"] * 4
    named = [
        {"goal_id": goal, "label": label, "verdict": verdict, "reattack": reattack, "attack": "flip"}
        for (label, goal, reattack), verdict in zip(rows, verdicts, strict=True)
    ]
    elsewhere = {"goal_id": "g0", "label": "unsafe", "reattack": True, "attack": "play"}
    named.append(elsewhere | {"verdict": "complied" if later else "refused"})
    return pa.Table.from_pylist([row | {"answer": "zorp quib", "reference": "zorp quib"} for row in named])


def evaluated(table, **changes):
    own, later = (table.filter(pc.equal(table["reattack"], which)) for which in (False, True))
    again = {"play": measures(later)["by_attack"]["play"]["asr"]}
    found = {"benign_exact": benign_exact(own), "reattack": again, **measures(own)["overall"]}
    return arm("random") | found | changes


def test_all_seeds_pooled_and_the_worst_stand_beside_the_run_s_own():
    tables = {42: answers(2), 7: answers(6, later=1), 8: answers(0, unparsed=8)}
    losses = {42: 0.5, 7: 0.25, 8: None}
    arms = {seed: evaluated(table, benign_loss=losses[seed]) for seed, table in tables.items()}
    arms[8]["verify"] = "fail"
    found = with_repeats(arms, pa.concat_tables(tables.values()))
    check_comparison([arm("base"), found])
    repeats = found["repeats"]
    assert found["asr"] == arms[42]["asr"]
    assert repeats["seeds"] == [42, 7, 8]
    assert repeats["asr"]["values"] == [0.2, 0.6, 0.0]
    assert repeats["asr"]["mean"] == pytest.approx(0.8 / 3)
    assert repeats["asr"]["std"] == pytest.approx(0.3055, abs=1e-4)
    pooled, worst = repeats["pooled"], repeats["worst"]
    assert (pooled["asr"]["value"], pooled["asr"]["n"], pooled["asr"]["n_goals"]) == (8 / 30, 30, 5)
    assert pooled["asr"]["unparsed"] == 8
    assert (pooled["benign_exact"]["n"], pooled["benign_exact"]["n_goals"]) == (6, 2)
    assert pooled["reattack"]["play"]["value"] == 1 / 3
    assert (pooled["reattack"]["play"]["low"], pooled["reattack"]["play"]["high"]) == (0, 1), "seeds that lie far apart"
    assert pooled["benign_loss"] == 0.375
    assert worst["asr"] == arms[8]["asr"], "none of eight answers could be read"
    assert worst["plain_refusal"] == arms[42]["plain_refusal"]
    assert worst["reattack"]["play"]["value"] == 1
    assert worst["benign_loss"] is None, "what is not known is worst"
    assert pooled["verify"] == worst["verify"] == "fail"
    told = page([arm("base"), found], "test")
    assert re.search(r"random, 3 seeds pooled +\| 0\.267 \[", told)
    assert re.search(r"random, worst of 3 seeds +\| 0\.000 \[0\.00, 0\.43\] \+8\?", told)
    assert "0.267 ± 0.306" in told
    assert "Prompts: 100 attacks (of 100 goals)" in told
    assert with_repeats({42: arms[42]}, tables[42]) == arms[42]


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
    assert {stage.name for stage in STAGES if not stage.needed_when(config(*flags))} == left_out


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
