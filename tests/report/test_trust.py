"""The box 'Can I trust this?', the headline's experts, and what is not there."""

import html
import re

import pytest

from moe_safety.evaluate.statistics import LEVEL, sign_flips
from moe_safety.report.absent import absent
from moe_safety.report.context import read_context
from moe_safety.report.download import rated, to_csv
from moe_safety.report.page import render
from moe_safety.report.tiles import by_layer, tiles
from moe_safety.report.trust import checks, smallest_difference
from moe_safety.report.verdict import beside
from moe_safety.rundir import RunDir
from tests.evaluate.rates import plain
from tests.report.handmade import WRAPPER, write_comparison


@pytest.fixture
def run(copied):
    return RunDir(copied.run_dir)


@pytest.fixture
def context(copied, run):
    def read(change=lambda objects: None, **options):
        for name in ("comparison.json", *run.names("eval", ".json")):
            run.delete(name)
        objects = write_comparison(run, **options)
        change(objects)
        run.write_json("comparison.json", objects)
        return read_context(run, copied.model)

    return read


def states(context):
    return {check.name: check.state for check in checks(context)}


def told(context, name):
    return next(check.told for check in checks(context) if check.name == name)


def test_what_an_n_can_show():
    assert smallest_difference(5) is None
    for goals in (6, 54, 400):
        least, found = smallest_difference(goals)
        assert sign_flips([1] * round(least * goals)) <= 1 - LEVEL < sign_flips([1] * (round(least * goals) - 1))
        assert 0 < found <= 1
    from scipy.stats import binom

    assert binom.sf(5, 54, smallest_difference(54)[1]) == pytest.approx(0.8)


def test_each_point_says_whether_it_holds(context):
    found = states(context())
    assert found == {
        "n and goals": "weak",
        "Stable ranking": "weak",
        "Judges": "weak",
        "Filter": "holds",
        "Whose words": "holds",
        "Harmless rows": "holds",
        "Controls": "weak",
        "Draws": "missing",
        "Unseen wrappers": "holds",
        "Choice of the arm": "weak",
        "What changed": "holds",
    }
    assert "With 12 goals a measured difference between two arms under 0.50 cannot be told" in told(
        context(), "n and goals"
    )


def test_points_change_with_what_was_done(context, run):
    def better(objects):
        best = next(one for one in objects if one["arm"] == "selective-gradient")
        best["chosen"] = {
            "within_margins": True,
            "shown": True,
            "tied": [],
            "wrappers": [WRAPPER],
            "n": 6,
            "n_goals": 6,
        }
        best["reattack"] = {WRAPPER: plain(54, 54).to_dict()}

    found = states(context(better))
    assert (found["Choice of the arm"], found["Unseen wrappers"]) == ("holds", "weak")
    assert states(context(arms=("base", "selective-routing+router")))["Seeds"] == "weak", "it was trained once"
    alone = context(arms=("base", "selective-routing"), judged=False)
    assert states(alone)["Controls"] == "missing"
    assert "No judge of harm is configured" in told(alone, "Judges")

    def narrow(objects):
        for one in objects:
            one["reattack"] = {}

    assert states(context(narrow))["Unseen wrappers"] == "missing"


def test_where_another_arm_does_better_the_repair_is_told_of_too(context):
    def chosen(objects):
        for one in objects[1:]:
            one["reattack"] = {WRAPPER: plain(0 if one["arm"] == "baseline" else 40, 54).to_dict()}
        by_name = {one["arm"]: one for one in objects}
        how = {"within_margins": True, "shown": True, "wrappers": [WRAPPER], "n": 6, "n_goals": 6}
        by_name["baseline"]["chosen"] = how | {"tied": []}
        by_name["selective-gradient"]["chosen_repair"] = how | {"tied": ["selective-routing"]}

    found = context(chosen)
    assert (found.best.name, found.repair.name) == ("baseline", "selective-gradient")
    (sentence,) = beside(found)
    assert sentence.startswith("Of the arms that train chosen experts alone the first is selective-gradient: attack su")
    assert f"] by {WRAPPER}; " in sentence
    assert sentence.endswith("; selective-routing ties with it, and it changes the least.")
    assert found.named[0] == "routing selects", "neither of them was trained here"
    assert told(found, "Controls").startswith(
        "Beside selective-gradient: Experts chosen at random (random) leave it at"
    )


def test_nothing_is_said_of_a_choice_that_was_not_made(context):
    found = context(arms=("base", "selective-gradient", "baseline"))
    assert found.best.name == "selective-gradient"
    assert beside(found) == []
    assert told(found, "Choice of the arm") == (
        "No validation goals were there to choose by: selective-gradient is the first repair that is named. "
        "data.validation_fraction gives goals to choose by."
    )
    page = render(found)
    assert "smallest sum" not in page
    assert "the first that is named of those that may count as repairs" in page


def test_the_headline_names_experts_by_layer_and_shows_before_and_after(context):
    found = context(arms=("base", "selective-routing+router"))
    said, experts = found.named
    assert said == "selective-routing+router repairs"
    assert [name for names in by_layer(experts).values() for name in names] == sorted(
        f"L{layer:02d}_E{expert:02d}" for layer, expert in experts
    )
    words = re.sub(r"<[^>]+>", " ", html.unescape(render(found)))
    assert all(name in words for names in by_layer(experts).values() for name in names)
    shown = {tile.title: (tile.before, tile.after) for tile in tiles(found)}
    assert shown["attack success"] == ("1.000", "0.250"), "unparsed answers at their worse end"
    assert shown[f"attack success, {WRAPPER}"] == ("1.000", "0.037")
    assert shown["parameters changed"] == ("0.0%", "19.0%")


def test_what_is_not_there_is_said_with_what_would_bring_it(context, identified):
    found = absent(context())
    assert found["Budget curve"] == "compare.budgets names no numbers of experts"
    assert found["Suites"] == "evaluate.suites names none"
    assert not {"Arms", "Training", "Judged harm"} & found.keys()
    alone = absent(read_context(RunDir(identified.run_dir), identified.model))
    assert {"Arms", "Training", "Sweeps"} <= alone.keys()
    assert "Suites" not in alone, "without arms that is no question"


def test_batches_by_experts_are_those_of_the_selection(context):
    view = context().by_batch
    assert (len(view.grid.rows), view.batches) == (6, 6)
    assert len(view.marked) == 6 * 8
    first = [place for place in view.marked if place[1] == 0]
    assert len(first) == max(sum(column == place for _, column in view.marked) for place in range(view.experts))


def test_a_table_is_downloaded_as_it_is_shown():
    rate = plain(3, 12, unparsed=1).to_dict()
    table = (
        "<table><caption>zorps</caption>"
        '<thead><tr><th>Arm</th><th data-name="Success">Success <span>x</span></th></tr></thead>'
        f"<tbody><tr><th>a, b</th><td{rated(rate)}>0.250<svg><title>drawn</title></svg></td></tr>"
        "<tr><th>fep</th><td>none</td></tr></tbody></table>"
    )
    head, one, other = to_csv(table).splitlines()
    assert head == 'Arm,Success,"Success, low","Success, high","Success, n","Success, n_goals","Success, unparsed"'
    assert one.startswith('"a, b",0.25,')
    assert one.endswith(",12,12,1")
    assert other == "fep,none,,,,,"


def test_no_cell_of_a_download_is_a_formula():
    cells = ["=1+1", "+1+1|'zorp'!A0", "-zorp", "@zorp", "-0.5", "+0.25", "a=1"]
    body = "".join(f"<tr><th>{cell}</th></tr>" for cell in cells)
    found = to_csv(f"<table><tr><th>=zorp</th></tr>{body}</table>").splitlines()
    assert found == ["'=zorp", "'=1+1", "'+1+1|'zorp'!A0", "'-zorp", "'@zorp", "-0.5", "+0.25", "a=1"]
