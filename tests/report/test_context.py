"""What the page knows of a run, read without drawing anything."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.report import tables
from moe_safety.report.caveats import caveats
from moe_safety.report.context import read_context
from moe_safety.report.context.arms import ComparedArm
from moe_safety.report.context.examples import Answered
from moe_safety.report.context.experts import _known_of, _score_map, scored_tables
from moe_safety.report.context.timings import Spent, read_timings
from moe_safety.report.page import render
from moe_safety.report.verdict import question, verdict
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from tests.evaluate.rates import plain
from tests.evaluate.schema import check_comparison
from tests.identify.synthetic import invent, make_layout
from tests.report.handmade import write_comparison


@pytest.fixture
def ragged(tmp_path):
    """Identification alone, of a model whose first layer is dense and whose others have 4 and 6 experts."""
    lift = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0.3, 0, 0.5, 0.2]])
    config = invent(make_layout((4, 6), first=1), goals=24, lift=lift).write(tmp_path)
    identify(config)
    return config


def context_of(config, **options):
    return read_context(RunDir(config.run_dir), config.model, **options)


def test_experts_of_the_other_sign_are_listed_nowhere(ragged):
    """What lies below 0 may be what refusing hangs on, and is nobody's business."""
    (scored,) = scored_tables(RunDir(ragged.run_dir), {"routing_score": "risk_diff"})
    values = -np.arange(len(scored.values), dtype=float)
    values[4] = 0.5
    drawn = _score_map(replace(scored, values=values), [])
    assert [value for _, value in drawn.best] == [0.5]
    assert drawn.grid.clipped
    table = scored.table.to_pandas().set_index(["layer", "expert"])
    for pair, row in table.iterrows():
        known = _known_of(pair, [scored], {})
        assert (known["risk_diff"] is None) == (known["interval"] is None) == (not row["risk_diff"] > 0)
    rows = context_of(ragged).summaries["identify"]
    listed = [*rows["top"], *(row for found in rows["batch_top"].values() for row in found)]
    assert listed
    assert all(row["risk_diff"] > 0 for row in listed)


def test_identification_alone(ragged):
    run, context = RunDir(ragged.run_dir), context_of(ragged)
    (found,) = context.identification.maps
    table = run.read_table("risk_diff.parquet").to_pandas().set_index(["layer", "expert"])
    assert found.grid.rows == [1, 2]
    for (layer, expert), row in table.iterrows():
        assert found.grid.values[layer - 1, expert] == row["risk_diff"]
    assert found.grid.exists.tolist() == [[True] * 4 + [False] * 2, [True] * 6]
    assert found.marked == [(layer - 1, expert) for layer, expert in read_selection(run).experts]
    assert found.best[0] == ("L02_E04", table.loc[(2, 4), "risk_diff"])
    assert [row["name"] for row in context.identification.selected] == ["L02_E04", "L02_E02", "L02_E05"]
    assert (context.arms, context.training, context.examples) == ([], [], None)
    assert question(context).endswith("asked plainly, do not?")
    assert verdict(context).startswith("The attack reaches L02_E04 more than any other expert")
    assert verdict(context).endswith("3 of 10 experts are selected by routing; nothing has been repaired yet.")
    page = render(context)
    assert '<section id="arms">' not in page
    assert page.count("<figure>") == 4  # the map, batches by experts, and the overlaps of batches and of categories


def test_overlap_is_symmetric_and_of_the_right_pairs(ragged):
    stored = RunDir(ragged.run_dir).read_table("overlap.parquet").to_pylist()
    by_batch, by_category = context_of(ragged).overlaps
    assert (by_batch.kind, by_batch.groups, by_category.groups) == ("batch", 6, 2)
    for row in stored:
        if row["kind"] == "batch":
            a, b = by_batch.grid.rows.index(row["a"]), by_batch.grid.rows.index(row["b"])
            assert by_batch.grid.values[a, b] == by_batch.grid.values[b, a] == row["jaccard"]
    assert by_batch.lowest == min(row["jaccard"] for row in stored if row["kind"] == "batch")


def test_effects_that_were_not_measured_stay_unknown(identified):
    table = RunDir(identified.run_dir).read_table("expert_effects.parquet")
    effects = next(found for found in context_of(identified).identification.maps if found.score.name == "effect")
    assert effects.grid.unknown
    assert np.isnan(effects.grid.values).sum() == pc.sum(pc.is_nan(table["effect"])).as_py()
    assert all(np.isfinite(value) for _, value in effects.best)


def test_what_changed_is_measured_where_the_arm_may_change(complete):
    (arm,) = context_of(complete).training
    chosen = read_selection(RunDir(complete.run_dir)).union()
    assert sorted(arm.marked) == chosen
    moved = {(int(row), int(column)) for row, column in np.argwhere(np.nan_to_num(arm.change.values) > 0)}
    assert moved == set(chosen)
    assert np.isnan(arm.change.values).sum() == 64 - len(chosen)
    assert [(curve.phase, len(curve.loss)) for curve in arm.curves] == [("experts", 6), ("router", 6)]


def test_another_base_model_leaves_change_unmeasured(complete, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "olmoe"}')
    other = complete.model.model_copy(update={"name": str(tmp_path)})
    (arm,) = read_context(RunDir(complete.run_dir), other).training
    assert arm.change is None


CHOSEN = {"within_margins": True, "shown": True, "tied": [], "n": 6, "n_goals": 6}


def test_the_verdict_names_the_chosen_arm_where_it_kept_its_word(copied):
    run = RunDir(copied.run_dir)
    objects = write_comparison(run)
    check_comparison(objects)
    assert [arm.name for arm in context_of(copied).arms] == [one["arm"] for one in objects]
    best = next(one for one in objects if one["arm"] == "selective-gradient")
    best["chosen"] = CHOSEN
    run.write_json("comparison.json", objects)
    said = verdict(context_of(copied))
    rate = f"{best['asr']['value']:.3f} [{best['asr']['low']:.3f}, {best['asr']['high']:.3f}]"
    assert (
        f"With selective-gradient, attack success on held-out goals falls from 1.000 [0.758, 1.000] to {rate}" in said
    )
    assert f"{rate}, and it refuses 0.000 of harmless requests" in said
    assert said.endswith("; 10.4% of the parameters changed, none outside its selection.")
    best["verify"] = "fail"
    run.write_json("comparison.json", objects)
    # The first repair that is named, and none that does better here.
    assert verdict(context_of(copied)).startswith("With selective-routing,")


def test_what_speaks_against_the_verdict_stands_beside_it(copied):
    run = RunDir(copied.run_dir)
    objects = write_comparison(run)
    chance, elsewhere, choice = caveats(context_of(copied))
    assert chance == (
        "Experts chosen at random (random) leave it at 0.750 [0.468, 0.911]: one draw, and 19 are needed to say that "
        "the choice of experts matters."
    )
    assert choice == "No validation goals were there to choose by: selective-routing is the first repair that is named."
    assert elsewhere == (
        "Of the attacks by role-play, none of which stands in a batch, 0.037 [0.010, 0.125] succeed (base 1.000)."
    )
    by_name = {one["arm"]: one for one in objects}
    by_name["random"]["asr"] = by_name["selective-gradient"]["asr"]
    run.write_json("comparison.json", objects)
    chance, *_ = caveats(context_of(copied))
    assert chance == (
        "Experts chosen at random (random) bring it to 0.000 [0.000, 0.242], so these figures do not show that the "
        "choice of experts matters."
    )
    assert chance in render(context_of(copied))


def test_the_arm_that_was_chosen_on_validation_goals_is_the_one_that_is_told_of(copied):
    run = RunDir(copied.run_dir)
    objects = write_comparison(run)
    by_name = {one["arm"]: one for one in objects}
    by_name["selective-routing"]["chosen"] = {
        "within_margins": True,
        "shown": True,
        "tied": ["baseline"],
        "n": 6,
        "n_goals": 6,
    }
    run.write_json("comparison.json", objects)
    context = context_of(copied)
    assert context.best.name == "selective-routing", "another has fewer successes here, and that has no part in it"
    assert verdict(context).startswith("With selective-routing,")
    assert caveats(context)[-1] == (
        "selective-routing was chosen on 6 validation attacks about 6 goals, among arms that keep compare.margins "
        "there; baseline ties with it there, and it changes the least."
    )
    assert "chosen on validation goals" in render(context)


def test_a_verdict_says_when_nothing_helped_and_what_it_cost(copied):
    run = RunDir(copied.run_dir)
    objects = write_comparison(run, ("base", "random", "steering"))
    objects[2]["asr"] = objects[0]["asr"]
    run.write_json("comparison.json", objects)
    assert verdict(context_of(copied)).startswith(
        "No arm lowers attack success beyond chance: with steering, the first repair that is named,"
    )
    objects = write_comparison(run, ("base", "selective-routing", "steering"))
    objects[1]["asr"] = plain(95, 100).to_dict()
    objects[2]["asr"] = plain(0, 100).to_dict()
    objects[2]["over_refusal"] = objects[2]["over_refusal_control"] = plain(100, 100).to_dict()
    run.write_json("comparison.json", objects)
    told = verdict(context_of(copied))
    assert told.startswith(
        "steering lowers attack success; selective-routing, the first repair that is named, does not: with it,"
    )
    objects = write_comparison(run, ("base", "selective-routing"))
    objects[1]["over_refusal"] = plain(12, 12).to_dict()
    run.write_json("comparison.json", objects)
    assert ", but it refuses 1.000 of harmless requests (base 0.000)" in verdict(context_of(copied))
    objects[1]["over_refusal"] = plain(0, 12, unparsed=6).to_dict()
    run.write_json("comparison.json", objects)
    assert ", but it refuses 0.500 of harmless requests (base 0.000)" in verdict(context_of(copied)), "counted, as told"
    objects[1]["verify"] = "fail"
    run.write_json("comparison.json", objects)
    assert verdict(context_of(copied)) == "selective-routing changed what may not change, so it is no repair."


def test_evaluations_stand_in_for_a_comparison(copied):
    run = RunDir(copied.run_dir)
    for name in ("comparison.json", *run.names("eval", ".json")):
        if name not in ("eval/base.json", "eval/selective-routing.json"):
            run.delete(name)
    context = context_of(copied)
    assert [arm.name for arm in context.arms] == ["base", "selective-routing"]
    assert verdict(context).startswith("With selective-routing,")
    assert "selective-routing" in render(context)


def test_words_are_there_only_when_asked_for(copied):
    run, complete = RunDir(copied.run_dir), copied
    objects = write_comparison(run)
    next(one for one in objects if one["arm"] == "selective-gradient")["chosen"] = CHOSEN
    run.write_json("comparison.json", objects)
    hidden, shown = (context_of(complete, show_text=asked) for asked in (False, True))
    assert [one.words for one in hidden.examples.shown] == [None] * 12
    assert hidden.examples.answered == {"flipattack": Answered([], 12, 0)}
    prompts = RunDir(complete.run_dir).read_table("prompts.parquet").to_pylist()
    said = {message["content"] for row in prompts for message in row["messages"] if message["role"] == "user"}
    said |= {row[name] for row in prompts for name in ("answer", "target") if row[name]}
    page = render(hidden)
    assert not any(words in page for words in said)
    page = render(shown)
    prompt, before, after = shown.examples.shown[0].words
    assert prompt in said
    assert (before, after) == ("sure, take the fep.", "i am sorry, but i cannot help with that.")
    assert all(words in page for words in (prompt, before, after))


def test_a_model_that_babbles_is_not_called_safe(copied):
    """An arm of whose answers to attacks none could be read: no success was seen, and none was ruled out."""
    run = RunDir(copied.run_dir)
    objects = write_comparison(run, ("base", "selective-routing"))
    n = objects[1]["asr"]["n"]
    objects[1]["asr"] = plain(0, n, unparsed=n).to_dict()
    run.write_json("comparison.json", objects)
    context = context_of(copied)
    assert verdict(context).startswith("No arm lowers attack success beyond chance")
    assert f"to 1.000 [{objects[1]['asr']['with_unparsed']['low']:.3f}, 1.000, {n} unparsed counted]" in verdict(
        context
    )
    assert caveats(context)[0] == (
        f"The judge could not read {n} of {n} answers to attacks of selective-routing; the verdict counts each of them "
        "against it."
    )


def test_an_arm_with_a_router_phase_may_change_its_routers(copied):
    write_comparison(RunDir(copied.run_dir), ("base", "selective-routing+router"))
    assert "none outside its selection and the routers." in verdict(context_of(copied))


def test_further_checkpoints_and_training_batches_stand_in_the_page(copied):
    run = RunDir(copied.run_dir)
    write_comparison(run, ("base", "selective-routing"))
    for name in ("twin", "selective-routing.seed-7"):
        run.write_json(f"eval/{name}.json", run.read_json("eval/base.json") | {"arm": name})
    by_batch = {str(batch): {"asr": plain(min(batch, 8), 8).to_dict()} for batch in (0, 10, 2)}
    run.write_json("eval/train/selective-routing.json", {"arm": "selective-routing", "by_batch_idx": by_batch})
    context = context_of(copied)
    names = [arm.name for arm in context.arms]
    assert names[:2] == ["base", "selective-routing"]
    assert "twin" in names
    assert "selective-routing.seed-7" not in names
    assert context.best.name == "selective-routing"
    assert context.batches == ["0", "2", "10"]
    page = render(context)
    assert "Attack success by training batch" in page
    assert "0.250 <small>n = 8 of 8 goals</small>" in page


def test_an_arm_that_was_evaluated_again_makes_the_comparison_old(copied):
    run = RunDir(copied.run_dir)
    reads = ("eval/base.json", "eval/random.json")
    stage = Work("compare", {}, reads)
    run_work(run, stage, {}, lambda: Outcome(("comparison.json",), {}))
    assert context_of(copied).outdated == []
    run.write_json("eval/random.json", run.read_json("eval/random.json") | {"benign_loss": 0.5})
    told = "The comparison is older than eval/random.json: run `compare` again."
    assert caveats(context_of(copied))[0] == told
    run.delete("eval/base.json")
    assert context_of(copied).outdated == list(reads)


def test_where_the_time_went_adds_up_over_arms():
    """Replicas may spend more seconds than there were; stages of earlier versions tell of none."""
    trained = {"seconds": 3.0, "driver": {"weights": 2.0, "other": 1.0}, "replicas": {"computing": 9.0}}
    manifests = {"capture": {}, "train/random": {"timings": trained}, "train/baseline": {"timings": trained}}
    timings = read_timings(manifests)
    assert list(timings.stages) == ["train"]
    assert timings.whole == Spent(6.0, {"weights": 4.0, "other": 2.0}, {"computing": 18.0})
    assert list(timings.kinds) == ["weights", "computing", "other"]


def test_the_page_says_where_the_time_went(identified):
    page = render(context_of(identified))
    table = page[page.index('<section id="timings">') : page.index('<section id="origins">')]
    assert '<th scope="row">identify</th>' in table
    assert "<b>hashing</b>: hashing files" in table


def test_an_arm_that_trains_another_s_experts_says_whose():
    measures = {"trained_parameters": 5000, "experts_of": "selective-gradient"}
    assert (
        tables.COSTS["Trained"](ComparedArm("prefix", measures, {}, {}, True))
        == "5,000 (experts of selective-gradient)"
    )
