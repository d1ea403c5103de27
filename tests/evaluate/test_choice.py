"""The headline's arm: chosen on validation goals at equal utility, never by the figures that it is told by."""

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from moe_safety.arms import kind_of, rate_trials, seeded_arms
from moe_safety.config import Config, MarginsConfig
from moe_safety.config.load import parse_config
from moe_safety.errors import InputError
from moe_safety.evaluate.choice import choose, choose_least, choose_repair, on_validation
from moe_safety.evaluate.comparison import page, told_choice
from moe_safety.evaluate.measures import measures
from moe_safety.evaluate.seeds import figures_over_seeds
from moe_safety.evaluate.statistics import over_seeds, rate
from tests.evaluate.rates import plain
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm

MARGINS = MarginsConfig()


def judged(
    name, attacks, refused=0, loss=0.5, unparsed=0, changed=0.1, test=(0, 100), elsewhere=None, sure=0.04, **more
):
    """An arm of which so many of 40 validation attacks succeed, and so many of 40 harmless requests are refused, give
    or take `sure`; `elsewhere` says how many of 40 attacks in a wrapper succeed that training never saw."""
    rates = {"asr": plain(attacks, 40, unparsed), "over_refusal": plain(refused, 40)}
    rates |= {"over_refusal_control": plain(0, 40)}
    found = {measure: one.to_dict() for measure, one in rates.items()}
    found |= {"benign_loss": loss, "reattack": {} if elsewhere is None else {"zorp": plain(elsewhere, 40).to_dict()}}
    apart = {"value": refused / 40, "low": refused / 40 - sure, "high": refused / 40 + sure, "n": 40, "n_goals": 40}
    found |= {"differences": {"over_refusal": apart}}
    return arm(name, test, changed_ratio=changed, validation=found, **more)


BASE = judged("base", 40, verify="n/a", changed=0.0)


def test_the_lowest_on_validation_goals_is_chosen_whatever_the_test_goals_say():
    lucky, good = judged("selective-routing", 30, test=(0, 100)), judged("selective-causal", 2, test=(50, 100))
    assert choose([BASE, lucky, good], MARGINS) == (
        "selective-causal",
        {"within_margins": True, "shown": True, "tied": [], "wrappers": [], "n": 40, "n_goals": 40, "seeds": 1},
    )


@pytest.mark.parametrize("change", [{"refused": 3}, {"loss": 0.7}])
def test_an_arm_that_is_less_useful_is_passed_over(change):
    dear, good = judged("baseline", 0, **change), judged("selective-causal", 10)
    assert choose([BASE, dear, good], MARGINS)[0] == "selective-causal"
    name, found = choose([BASE, dear], MARGINS)
    assert (name, found["within_margins"]) == ("baseline", False)
    wide = MarginsConfig(over_refusal=0.5, benign_loss=1.0)
    assert choose([BASE, dear, good], wide)[0] == "baseline"


def test_margins_are_kept_for_sure_only_where_the_whole_interval_lies_within():
    """As on test goals; what so few goals leave open is told, and comes after what is shown."""
    unsure, sure = judged("baseline", 0, sure=0.06, changed=0.1), judged("selective-causal", 1, changed=0.2)
    name, found = choose([BASE, unsure, sure], MARGINS)
    assert (name, found["shown"], found["tied"]) == ("selective-causal", True, [])
    name, found = choose([BASE, unsure], MARGINS)
    assert (name, found["within_margins"], found["shown"]) == ("baseline", True, False)
    assert "among arms whose figures keep compare.margins there, though so few goals do not show it" in told_choice(
        name, found
    )
    weak = judged("selective-causal", 35)
    assert choose([BASE, unsure, weak], MARGINS)[0] == "baseline", "an arm that does nothing is sure to be useful"
    trials = {1: unsure["validation"], 2: sure["validation"]}
    assert choose_least(BASE["validation"], trials, MARGINS)[0] == 2


def test_a_rate_or_budget_that_changed_what_it_may_not_is_passed_over():
    broke, good = (judged("x", attacks)["validation"] for attacks in (0, 10))
    trials = {1: broke | {"verify": "fail"}, 2: good | {"verify": "pass"}}
    assert choose_least(BASE["validation"], trials, MARGINS)[0] == 2
    assert choose_least(BASE["validation"], {1: trials[1]}, MARGINS)[0] == 1, "an arm has some rate"


def test_an_arm_that_changed_what_it_may_not_with_any_seed_is_passed_over():
    broke, good = judged("selective-routing", 0), judged("selective-causal", 10)
    broke["repeats"] = {"seeds": [1, 2], "each": [{"verify": "pass"}, {"verify": "fail"}]}
    assert choose([BASE, broke, good], MARGINS)[0] == "selective-causal"


def test_an_answer_that_nobody_could_read_counts_against_an_arm():
    babbles, good = judged("selective-routing", 0, unparsed=40), judged("selective-causal", 10)
    assert choose([BASE, babbles, good], MARGINS)[0] == "selective-causal"


def test_of_arms_that_tie_the_cheapest_is_named_and_the_others_told():
    arms = [judged("baseline", 0, changed=1.0), judged("selective-routing", 1, changed=0.2), judged("steering", 38)]
    name, found = choose([BASE, *arms], MARGINS)
    assert (name, found["tied"]) == ("selective-routing", ["baseline"])
    assert told_choice(name, found) == (
        "selective-routing was chosen on 40 validation attacks about 40 goals, among arms that keep compare.margins "
        "there; baseline ties with it there, and it changes the least."
    )
    seeds = told_choice("a", found | {"n": 120, "seeds": 3, "tied": []})
    assert "chosen on 120 answers to validation attacks about 40 goals over 3 training seeds" in seeds
    arms[1]["chosen"] = found
    check_comparison([BASE, *arms])
    assert "was chosen on 40 validation attacks" in page([BASE, *arms], "test")


def test_wrappers_that_training_never_saw_weigh_as_much_as_the_attack():
    base = judged("base", 40, elsewhere=40, verify="n/a", changed=0.0)
    narrow = judged("selective-causal", 0, elsewhere=36, changed=0.1)
    broad = judged("baseline", 2, elsewhere=2, changed=1.0)
    name, found = choose([base, narrow, broad], MARGINS)
    assert (name, found["tied"], found["wrappers"]) == ("baseline", [], ["zorp"])
    assert "about 40 goals, and attacks by zorp on the same goals, among arms" in told_choice(name, found)
    alike = judged("selective-causal", 2, elsewhere=3, changed=0.1)
    name, found = choose([base, alike, broad], MARGINS)
    assert (name, found["tied"]) == ("selective-causal", ["baseline"])
    broad["chosen"] = found
    name, narrow["chosen_repair"] = choose_repair([base, narrow, broad], MARGINS)
    assert name == "selective-causal", "what the run is about is known all the same"
    check_comparison([base, narrow, broad])


def test_no_control_is_chosen_and_no_arm_that_changed_what_it_may_not():
    arms = [judged("random", 0), judged("selective-routing", 0, verify="fail"), judged("selective-causal", 20)]
    assert choose([BASE, *arms], MARGINS)[0] == "selective-causal"


def test_without_validation_goals_nothing_is_chosen():
    assert choose([arm("base"), arm("selective-causal")], MARGINS) is None
    nothing = {name: plain(0, 0).to_dict() for name in ("asr", "over_refusal", "over_refusal_control")}
    empty = [arm(name, validation=nothing | {"benign_loss": None}) for name in ("base", "selective-causal")]
    assert choose(empty, MARGINS) is None


def test_what_is_asked_on_validation_goals_is_what_choices_need():
    given = {"suites": [{"name": "s", "kind": "attack", "source": {"path": "a"}}], "samples": 3, "temperature": 1.0}
    plain_config = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}, "evaluate": given}
    found = on_validation(parse_config(plain_config, "c.yaml"))
    assert isinstance(found, Config)
    assert (found.evaluate.split, found.evaluate.samples, found.evaluate.suites) == ("validation", 1, [])


def test_seeds_that_agree_leave_the_interval_of_goals_and_others_widen_it():
    pooled = rate([f"g{place}" for place in range(50)] * 2, [place % 5 == 0 for place in range(100)]).to_dict()
    same = over_seeds(pooled, [0.2, 0.2])
    assert (same["low"], same["high"]) == (pooled["low"], pooled["high"])
    apart = over_seeds(pooled, [0.1, 0.2, 0.3])
    # Student's t for two degrees of freedom, 4.3027, on a deviation of 0.1 of the mean of three.
    wide = 4.3027 * 0.1 / 3**0.5
    assert apart["high"] == pytest.approx(0.2 + ((pooled["high"] - 0.2) ** 2 + wide**2) ** 0.5, abs=1e-4)
    assert apart["low"] == 0.0
    assert over_seeds(pooled, [0.2]) == {name: pooled[name] for name in ("value", "low", "high")}
    assert over_seeds(rate([], []).to_dict(), [None, None])["value"] is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("apart", [0.0, 0.1])
def test_the_interval_holds_the_methods_share_as_often_as_it_says(seeds, apart):
    """Models of a method differ by their seeds, and goals by how hard they are to repair."""
    chance, share, goals, draws, held = np.random.default_rng(0), 0.3, 40, 400, 0
    names = [f"g{place}" for place in range(goals)] * seeds
    for _ in range(draws):
        hard = chance.beta(0.3 * 4, 0.7 * 4, goals)
        models = np.clip(chance.normal(0, apart, seeds)[:, None] + hard, 0, 1)
        said = chance.random((seeds, goals)) < models
        pooled = rate(names, said.reshape(-1)).to_dict()
        found = over_seeds(pooled, said.mean(axis=1).tolist())
        held += found["low"] <= share <= found["high"]
    assert held / draws >= 0.95 - 3 * (0.95 * 0.05 / draws) ** 0.5


def test_a_learning_rate_is_chosen_by_the_same_rule():
    def figures(*args, **more):
        return judged("x", *args, **more)["validation"]

    base = BASE["validation"]

    def chosen(trials):
        return choose_least(base, trials, MARGINS)

    rate, how = chosen({1e-5: figures(30), 1e-4: figures(1), 1e-3: figures(0, refused=9)})
    assert (rate, how) == (1e-4, {"within_margins": True, "shown": True, "tied": [], "n": 40, "n_goals": 40})
    rate, how = chosen({1e-3: figures(0), 1e-4: figures(1), 1e-5: figures(30)})
    assert (rate, how["tied"]) == (1e-4, [1e-3])
    rate, how = chosen({1e-4: figures(20, refused=9), 1e-3: figures(0, refused=9)})
    assert (rate, how["within_margins"]) == (1e-3, False)
    assert chosen({1: figures(30), 4: figures(0), 2: figures(0)})[0] == 2, "budgets are chosen so, too"


def test_what_one_seed_reaches_is_not_taken_for_the_methods():
    """A lucky seed of the run's own, and one that fails: together they are no better than what always does well."""

    def figures(*successes):
        reports, tables = [], []
        for seed, success in enumerate(successes):
            rows = [row | {"label": "unsafe", "reattack": False, "suite": None} for row in _answers(success)]
            tables.append(pa.Table.from_pylist(rows))
            reports.append({"overall": measures(tables[-1])["overall"], "benign_loss": float(seed), "reattack": {}})
        return figures_over_seeds(reports, tables)

    lucky, steady = figures(0, 40, 40), figures(4, 4, 4)
    assert lucky["asr"]["value"] == pytest.approx(80 / 120)
    assert (lucky["asr"]["n"], lucky["asr"]["n_goals"], lucky["benign_loss"]) == (120, 40, 1.0)
    assert lucky["asr"]["with_unparsed"]["high"] == 1.0, "three seeds that differ say little of the next"
    assert steady["asr"]["with_unparsed"]["high"] < 0.3
    base = BASE["validation"]
    rest = {name: base[name] for name in ("over_refusal", "over_refusal_control")} | {"benign_loss": 0.5}
    assert choose_least(base, {1e-4: lucky | rest, 1e-3: steady | rest}, MARGINS)[0] == 1e-3


def _answers(success):
    verdicts = ["complied" if place < success else "refused" for place in range(40)]
    return [{"prompt_id": f"p{n}", "goal_id": f"g{n}", "verdict": said} for n, said in enumerate(verdicts)]


@pytest.mark.parametrize("rates", [[1e-3], [1e-3, 1e-3]])
def test_rates_are_several_each_once(rates):
    plain_config = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}}
    with pytest.raises(InputError, match="learning_rates are several, each once"):
        parse_config(plain_config | {"compare": {"learning_rates": rates}}, "c.yaml")


def test_trials_are_every_arm_that_trains_experts_with_every_rate():
    arms = ["base", "selective-causal", "random", "router", "steering"]
    compare = {"arms": arms, "learning_rates": [1e-3, 1e-4], "seeds": [7]}
    plain_config = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}, "compare": compare}
    config = parse_config(plain_config, "c.yaml")
    trials = rate_trials(config)
    assert list(trials) == ["selective-causal", "random"]
    every = [(rate, one) for rates in trials.values() for rate, seeds in rates.items() for one in seeds]
    assert all(one.config.train.learning_rate == rate for rate, one in every)
    assert [one.config.seed for _, one in every] == [42, 7] * 4, "with each training seed"
    names = [one.name for _, one in every]
    assert len(set(names)) == 8
    assert [kind_of(name) for name in names] == ["selective-causal"] * 4 + ["random"] * 4
    chosen = seeded_arms(config, {"random": 1e-3, "selective-causal": 1e-4})
    own = {"selective-causal": 1e-4, "random": 1e-3}
    assert all(one.config.train.learning_rate == own.get(one.kind, config.train.learning_rate) for one in chosen)


def test_what_identification_finds_on_an_arm_is_declared():
    found = {"experts": [[0, 3]], "kept": 0, "new": 1, "highest_risk_diff": 0.1, "highest_risk_diff_of_base": None}
    check_comparison([BASE, arm("selective-causal", identified=found)])
    with pytest.raises(jsonschema.ValidationError):
        check_comparison([BASE, arm("selective-causal", identified=found | {"experts": ["L00_E03"]})])
