"""Figures are functions of numbers: what is drawn, and where."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from moe_safety.report.figures.curves import curves, powers_around, round_up
from moe_safety.report.figures.heatmap import SHADES, Grid, heatmap, scale
from moe_safety.report.figures.intervals import interval
from moe_safety.report.figures.svg import tag
from tests.evaluate.rates import plain

VALUES = np.array([[0.0, 0.5, -1.0, np.nan], [0.5, 0.5, 0.26, np.nan]])
EXISTS = np.array([[True, True, True, False], [True, True, True, True]])
GRID = Grid(VALUES, [3, 5], range(4), EXISTS)


def paths(svg):
    """Cells by class and strength."""
    found = {}
    for path in ET.fromstring(svg).iter("path"):
        runs = re.findall(r"M(\d+) (\d+)h(\d+)v1", path.get("d"))
        cells = {(int(row), int(left) + step) for left, row, long in runs for step in range(int(long))}
        found[path.get("class"), path.get("fill-opacity")] = cells
    return found


def test_every_cell_has_the_colour_of_its_number():
    drawn = paths(heatmap(GRID, "a map"))
    assert drawn["cell-zero", None] == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)}
    assert drawn["cell-unknown", None] == {(1, 3)}
    assert drawn["cell-above", "0.5"] == {(0, 1), (1, 0), (1, 1)}
    assert drawn["cell-below", "1"] == {(0, 2)}
    assert drawn["cell-above", f"{round(0.26 * SHADES) / SHADES:.3g}"] == {(1, 2)}


def test_a_map_without_negative_numbers_has_one_hue():
    rising = Grid(np.abs(VALUES), GRID.rows, GRID.columns, EXISTS)
    assert {class_ for class_, _ in paths(heatmap(rising, "a map"))} == {
        "cell-zero",
        "cell-unknown",
        "cell-rising",
        "mark",
    }
    assert "rising" in scale(rising)
    assert re.findall(r"<span>(.*?)</span>", scale(GRID)) == ["-1", "0", "+1"]


def test_a_map_of_the_guilty_sign_tells_nothing_of_the_other():
    above = replace(GRID, above=True)
    svg = heatmap(above, "a map", down="layer", across="expert")
    classes = {(class_, strength) for class_, strength in paths(svg) if class_ in ("cell-above", "cell-below")}
    told = json.loads(ET.fromstring(svg).get("data-map"))["values"]
    assert (above.reach, classes) == (0.5, set())
    assert paths(svg)["cell-rising", "1"] == {(0, 1), (1, 0), (1, 1)}
    assert told == [["0 or less", 0.5, "0 or less", None], [0.5, 0.5, 0.26, None]]
    assert re.findall(r"<span>(.*?)</span>", scale(above)) == ["0 or less", "0.5"]


def test_marks_and_names():
    svg = ET.fromstring(heatmap(GRID, "a map", marked=[(1, 2)]))
    (mark,) = (path.get("d") for path in svg.iter("path") if path.get("class") == "mark")
    assert mark.startswith("M2.04 1.04")
    assert [text.text for text in svg.iter("text")] == ["3", "5", "0", "1", "2", "3"]
    assert (svg.get("role"), svg.get("aria-label")) == ("img", "a map")


def test_a_large_map_stays_small():
    chance = np.random.default_rng(0)
    large = Grid(chance.normal(size=(58, 256)), range(58), range(256), np.ones((58, 256), dtype=bool))
    assert len(heatmap(large, "a map")) < 400_000


def test_an_interval_and_its_worst_case():
    rate = plain(2, 20, unparsed=4).to_dict() | {"low": 0.03, "high": 0.3}
    svg = ET.fromstring(interval(rate, "a rate"))
    (bar,) = (line for line in svg.iter("line") if line.get("class") == "range")
    places = {circle.get("class"): circle.get("cx") for circle in svg.iter("circle")}
    assert (bar.get("x1"), bar.get("x2"), places) == ("3%", "30%", {"value": "10%", "worst": "30%"})
    empty = ET.fromstring(interval(plain(0, 0).to_dict(), "no rate"))
    assert not list(empty.iter("circle"))


def test_a_line_goes_where_its_numbers_are():
    svg = curves([0, 1, 2, 3], {"a": [0, 1, float("inf"), 2]}, "lines", top=2, x_name="layer")
    (line,) = (path for path in ET.fromstring(svg).iter("path"))
    assert line.get("d") == "M0 1h0L0.33333 0.5M1 0h0"


def test_powers_of_ten_stand_at_equal_distances():
    svg = ET.fromstring(curves([0, 1, 2], {"a": [1, 0.1, 0.001]}, "lines", top=1, bottom=0.001, x_name="step"))
    (line,) = (path.get("d") for path in svg.iter("path"))
    assert line == "M0 0h0L0.5 0.33333L1 1"
    levels = [text for text in svg.iter("text") if text.get("text-anchor") == "end"][:4]
    assert [text.text for text in levels] == ["0.001", "0.01", "0.1", "1"]
    assert [float(text.get("y").rstrip("%")) for text in levels] == pytest.approx([100, 66.67, 33.33, 0], abs=0.01)


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(0.0006, 0.3, (1e-4, 1.0)), (0.001, 0.1, (1e-3, 0.1)), (2, 3, (1.0, 10.0))]
)
def test_powers_of_ten_around_numbers(low, high, ends):
    assert powers_around(low, high) == pytest.approx(ends)


def test_a_long_line_is_thinned_and_keeps_its_course():
    values = np.linspace(0, 1, 10_000)
    svg = curves(range(10_000), {"a": values}, "lines", top=1, x_name="step", smooth=True)
    *_, line = (path.get("d") for path in ET.fromstring(svg).iter("path"))
    points = np.array([[float(part) for part in point.split()] for point in re.split("[ML]|h0L?", line) if point])
    assert len(points) <= 240
    np.testing.assert_allclose(points[15:-30, 0], 1 - points[15:-30, 1], atol=0.01)


@pytest.mark.parametrize(("value", "end"), [(0.32, 0.4), (1.4, 1.5), (0, 1), (10, 10), (0.0021, 0.003)])
def test_scales_end_at_round_numbers(value, end):
    assert round_up(value) == pytest.approx(end)


def test_text_and_values_are_escaped():
    assert tag("text", "<b>", class_='"x') == '<text class="&#34;x">&lt;b&gt;</text>'
