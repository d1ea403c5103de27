"""A sweep in the report: what was drawn, what was told, and where each trial stands."""

import math
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from moe_safety.config import results_only
from moe_safety.pipeline import run_one
from moe_safety.report import sweeping
from moe_safety.report.context.sweeps import DRAWN, read_sweeps
from moe_safety.report.figures.parallel import choice_axis, number_axis, parallel
from moe_safety.report.figures.trade import trade
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from moe_safety.tune.outcome import ranked, results_table
from tests.tune.sweeps import finished, sweep_of

SPACE = {
    "train.learning_rate": {"log_uniform": [1e-5, 1e-3]},
    "identify.top_k": {"integer": [2, 12]},
    "train.masking": {"choice": ["gradient", "union"]},
}
SWEEP = sweep_of(search="optuna", objectives=["asr", "over_refusal"], space=SPACE)


def point(number):
    masking = '"union"' if number % 2 else '"gradient"'
    return {"train.learning_rate": 10 ** -(3 + number % 3), "identify.top_k": 2 + number % 11, "train.masking": masking}


def trial(number, asr, over_refusal, **more):
    measured = {"safety_score": 1 - asr - over_refusal, "asr": asr, "over_refusal": over_refusal}
    return finished(point(number) | {"identify.top_k": number}, measured, **more)


TRIALS = [
    trial(2, 0.0, 0.5),
    trial(3, 0.1, 0.0),
    trial(4, 0.5, 0.1),
    trial(5, 0.9, 0.9, status="stopped"),
    finished(point(6), status="failed", error="out of memory"),
]


def sweep_done(run, sweep=SWEEP, trials=TRIALS, name="small"):
    """As `tune` leaves it."""

    def body():
        run.write_table(f"tune/{name}/results.parquet", results_table(sweep, trials))
        order = [record.id for record in ranked(sweep, trials)]
        return Outcome((f"tune/{name}/results.parquet",), {"trials": len(trials), "order": order})

    run_work(run, Work(f"tune/{name}", {"sweep": results_only(sweep)}), {}, body)


@pytest.fixture
def swept(tmp_path):
    run = RunDir(str(tmp_path))
    sweep_done(run)
    (found,) = read_sweeps(run, {"tune/small": run.read_json("manifests/tune.small.json")})
    return found


def test_what_is_read_is_what_was_swept(swept):
    assert [trial.settings["identify.top_k"] for trial in swept.finished] == [3, 2, 4], "best first"
    assert [trial.on_front for trial in swept.finished] == [True, True, False]
    assert swept.best.settings == {"train.learning_rate": 1e-3, "identify.top_k": 3, "train.masking": "union"}
    assert swept.measured == ["asr", "over_refusal", "safety_score"]
    told = sweeping.summary(swept)
    assert "5 trials, 1 were stopped early by ASHA, 1 failed" in told
    assert "1 said: out of memory" in told
    assert "attacks answered 0.100, over-refusal 0.000" in told
    assert "attack success 0.100" in sweeping.summary(replace(swept, harm_is_judged=True))


def test_a_choice_may_be_null(tmp_path):
    run = RunDir(str(tmp_path))
    sweep = sweep_of(space={"train.clip": {"choice": [None, 1.0]}})
    sweep_done(run, sweep, [finished({"train.clip": "null"}, {"safety_score": 1.0})])
    (found,) = read_sweeps(run, {"tune/small": run.read_json("manifests/tune.small.json")})
    assert found.best.settings == {"train.clip": None}
    assert found.sweep == sweep


def test_of_many_trials_the_best_are_drawn_and_some_others(tmp_path):
    run = RunDir(str(tmp_path))
    many = [trial(number, number / 1000, 0.0) for number in range(2, 700)]
    sweep_done(run, SWEEP, many)
    (found,) = read_sweeps(run, {"tune/small": run.read_json("manifests/tune.small.json")})
    drawn = [one.settings["identify.top_k"] for one in found.drawn]
    assert DRAWN * 0.7 < len(drawn) <= DRAWN
    assert drawn[: DRAWN // 2] == list(range(2, 2 + DRAWN // 2))
    assert drawn[-1] > 600, "poor ones are among them"


def test_a_line_crosses_each_axis_at_its_value():
    axes = [number_axis("rate", [1e-5, 1e-4, 1e-3], log=True), choice_axis("way", ["a", "b", "a"])]
    assert axes[0].heights == pytest.approx([1.0, 0.5, 0.0])
    assert axes[1].heights == [0.25, 0.75, 0.25]
    svg = ET.fromstring(parallel(axes, "trials", marked=1))
    lines = {each.get("class"): each.get("d") for each in svg.iter("path")}
    assert lines["line series-0"] == "M0 0.5h0L1 0.75"
    assert sum(each.get("class") == "line faint" for each in svg.iter("path")) == 2
    assert [each.text for each in svg.iter("text")] == ["rate", "0.001", "1e-05", "way", "a", "b"]


def test_what_was_not_measured_breaks_a_line():
    axis = number_axis("loss", [None, 1.0, 3.0])
    assert math.isnan(axis.heights[0])
    assert axis.heights[1:] == [1.0, 0.0]
    assert number_axis("k", [4, 4], whole=True).labels == [(0.5, "4")]
    assert number_axis("none", [None]).labels == []


def test_dots_stand_where_their_numbers_say():
    svg = ET.fromstring(trade({"one": (0.0, 0.0), "two": (1.0, 0.5)}, [True, False], "a trade", x_name="x", y_name="y"))
    found = {each.get("class"): (each.get("cx"), each.get("cy")) for each in svg.iter("circle")}
    left, right = (float(found[name][0].rstrip("%")) for name in ("trial front", "trial"))
    low, high = (float(found[name][1].rstrip("%")) for name in ("trial front", "trial"))
    assert left < right, "more stands to the right"
    assert low > high, "and above"
    assert found["ring"] == found["trial front"], "the first one is the best"


def test_it_stands_in_the_report(complete, tmp_path):
    shutil.copytree(complete.run_dir, tmp_path / "run")
    config = complete.model_copy(update={"run_dir": str(tmp_path / "run")})
    run = RunDir(config.run_dir)
    sweep_done(run)
    run_work(run, Work("identify/tune/small/work/abc", {}), {}, lambda: Outcome((), {}))
    run_one("report", config)
    page = run.read_bytes("report.html").decode()
    section = re.search(r'<section id="sweeps">(.*?)</section>', page, re.S)[1]
    assert len(re.findall(r'<svg role="img" aria-label="[^"]+"', section)) == 2
    assert "A line for each finished trial" in section
    assert "tune/small/work" not in page, "trials' own stages are left out"
    run_one("report", config)
    sweep_done(run, trials=TRIALS[:3], name="other")
    run_one("report", config)
    assert run.read_bytes("report.html").decode().count("<h3>other</h3>") == 1
