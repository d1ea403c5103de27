"""The page as a reader has it: in Chromium, on a phone and on a laptop, light and dark."""

import csv
import json
import re
import shutil

import pytest
from playwright import sync_api as playwright

from moe_safety.report.report import report
from moe_safety.rundir import RunDir
from tests.report.handmade import ARMS, WRAPPER

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
SIZES = {"phone": {"width": 390, "height": 844}, "laptop": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def browser():
    quiet = ("background-networking", "component-update", "sync", "gpu")
    arguments = ["--no-sandbox", *(f"--disable-{name}" for name in quiet)]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(complete):
    report(complete)
    return RunDir(complete.run_dir).path("report.html")


@pytest.fixture(params=["phone light", "phone dark", "laptop light", "laptop dark"])
def page(request, browser, page_file):
    """The page, and everything that went wrong on it."""
    size, scheme = request.param.split()
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith("file:") or page.complaints.append(request.url))
    page.scheme = scheme
    page.goto(f"file://{page_file}")
    yield page
    context.close()


FIGURES = {
    "Risk difference (activation": 1,
    "Mean absolute gradient": 1,
    "Effect of holding the expert back": 1,
    "Jaccard of the selections of 6 batches": 1,
    "Jaccard of the selections of": 2,
    "Rank correlation by layer": 1,
    "selective-routing+router, experts phase: loss over 6 steps": 1,
    "selective-routing+router, router phase: loss over 6 steps": 1,
    "selective-routing+router: relative change": 1,
    "KL divergence from the base's routing": 6,
    "Share of the base's top-k choices": 6,
    "attack success: ": len(ARMS),
    "over-refusal: ": len(ARMS),
    f"{WRAPPER}: ": len(ARMS),
    "Risk difference of 6 batches for": 1,
    ", and after ": 4,
    ", margin 0.1: ": len(ARMS) - 1,
    "refusal margin. With so many experts held back": len(ARMS),
    "refusal margin. After so many steps": len(ARMS),
}
"""What stands in for a figure that cannot be seen, or begins it, and how many there are."""

VISIBLE = """all => all.map(one => ({
    label: one.getAttribute("aria-label"),
    right: one.getBoundingClientRect().right,
    drawn: [...one.querySelectorAll("path, line, circle")].filter(part => {
        const box = part.getBoundingClientRect(), style = getComputedStyle(part);
        return box.width + box.height > 0 && (style.fill !== "none" || style.stroke !== "none");
    }).length,
}))"""

COLOURS = """() => {
    const of = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
    return {
        paper: of("body", "backgroundColor"), ink: of("body", "color"), soft: of("figcaption", "color"),
        tick: of("svg text", "fill"), link: of("nav a", "color"), zero: of(".cell-zero", "fill"),
        above: of(".cell-above", "fill"), below: of(".cell-below", "fill"), rising: of(".cell-rising", "fill"),
        mark: of(".mark", "stroke"), line: of(".line", "stroke"), value: of(".value", "fill"),
    };
}"""


def luminance(colour):
    """Of the WCAG."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_nothing_goes_wrong_and_nothing_is_wider_than_the_screen(page):
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]


def test_every_figure_is_there_and_drawn(page):
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    figures = page.eval_on_selector_all("svg[role=img]", VISIBLE)
    for label, times in FIGURES.items():
        assert len([one for one in figures if label in one["label"]]) == times, label
    assert all(one["drawn"] for one in figures)
    wide = "Risk difference of 6 batches for"  # has a named column for each expert, and scrolls in its frame
    narrow = [one for one in figures if not one["label"].startswith(wide)]
    assert all(0 < one["right"] <= page.viewport_size["width"] for one in narrow)
    assert all(name in page.inner_text("nav") for name in ("Which experts", "What changed", "Routing shift"))


def test_colours_can_be_told_apart_in_either_theme(page):
    colours = page.evaluate(COLOURS)
    assert (luminance(colours["paper"]) < 0.1) == (page.scheme == "dark")
    for words in ("ink", "soft", "tick", "link"):
        assert contrast(colours[words], colours["paper"]) >= 4.5, words
    for shape in ("line", "value", "mark"):
        assert contrast(colours[shape], colours["paper"]) >= 3, shape
    for end in ("above", "below", "rising"):
        assert contrast(colours[end], colours["zero"]) >= 3, end


SCROLLED = """() => [...document.querySelectorAll("main *")].filter(one =>
    one.scrollWidth > one.clientWidth && getComputedStyle(one).overflowX === "auto" && one.tabIndex < 0
).map(one => one.outerHTML.slice(0, 80))"""


def test_all_of_it_can_be_reached_by_the_keyboard(page):
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate(SCROLLED) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert focused
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    heads = page.eval_on_selector_all("thead th", "all => all.filter(one => one.innerText && !one.scope).length")
    assert heads == 0


def test_on_paper_it_is_dark_on_light_and_nothing_is_cut(page):
    page.emulate_media(media="print")
    colours = page.evaluate(COLOURS)
    assert luminance(colours["paper"]) > 0.9 > 0.1 > luminance(colours["ink"])
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    hidden = (
        "all => all.filter(one => one.checkVisibility({contentVisibilityAuto: true}) && one.offsetHeight > 0).length"
    )
    inside = page.eval_on_selector_all("details > *:not(summary)", "all => all.length")
    assert page.eval_on_selector_all("details > *:not(summary)", hidden) == inside > 0, "what is folded is printed"
    clipped = "all => all.filter(one => getComputedStyle(one).overflowX !== 'visible').length"
    assert page.eval_on_selector_all(".scroll, .frame", clipped) == 0


def test_numbers_are_text(page):
    shown = " ".join(page.inner_text("body").split())
    assert "0.083 [0.015, 0.354]" in shown
    assert "Attack success ↓ n = 12" in shown
    assert page.inner_text("#verdict").startswith("With selective-routing, attack success")


def column(page, table, place):
    rows = page.eval_on_selector_all(
        f"{table} tbody tr", "all => all.map(row => [...row.cells].map(one => one.innerText))"
    )
    return [row[place].split()[0] if row[place] else "" for row in rows]


def test_tables_are_sorted_filtered_and_downloaded(page):
    cost = "#arms .table:nth-of-type(2)"
    names = column(page, cost, 0)
    loss = page.locator(f"{cost} thead button", has_text="Benign loss")
    loss.click()
    assert column(page, cost, 4) == sorted(column(page, cost, 4))
    loss.click()
    assert column(page, cost, 4) == sorted(column(page, cost, 4), reverse=True)
    assert page.get_attribute(f"{cost} thead th:nth-child(5)", "aria-sort") == "descending"
    page.locator(f"{cost} thead button", has_text="Stopped").click()
    assert column(page, cost, 1)[-1] == "", "what is not known stands last"
    page.locator(f"{cost} thead button", has_text="Stopped").click()
    assert column(page, cost, 1)[-1] == ""
    page.locator(f"{cost} thead button", has_text="Stopped").click()
    assert column(page, cost, 0) == names, "the third time it is as it was"
    rows = page.locator("#examples tbody tr")
    page.fill("#examples input[type=search]", "unsafe")
    assert 0 < rows.filter(visible=True).count() < rows.count()
    with page.expect_download() as started:
        page.click("#arms .csv >> nth=0")
    assert started.value.suggested_filename == "arms.csv"
    found = list(csv.DictReader(started.value.path().open(encoding="utf-8", newline="")))
    assert [row["Arm"] for row in found] == list(ARMS)
    assert float(found[1]["Attack success"]) == pytest.approx(1 / 12, abs=1e-5)
    assert (found[1]["Attack success, n"], found[2]["Attack success, unparsed"]) == ("12", "3")


def test_arms_are_folded_and_taken_away(page):
    away = page.locator("[data-arm=steering]")
    assert page.locator("#shift details.arms").count() == 2
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert away.filter(visible=True).count() == away.count() > 3
    page.get_by_label("steering", exact=True).uncheck()
    assert away.filter(visible=True).count() == 0


def test_the_numbers_under_the_pointer_are_told(page):
    page.locator("#experts svg[data-map]").first.scroll_into_view_if_needed()
    box = page.locator("#experts svg[data-map]").first.bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    told = re.fullmatch(r"layer 0, expert 0: (0 or less|[\d.e-]+)", page.inner_text(".tip"))
    known = json.loads(page.locator("#experts svg[data-map]").first.get_attribute("data-map"))["values"][0][0]
    assert told[1] == known if isinstance(known, str) else float(told[1]) == known
    page.mouse.move(2, 2)
    assert page.locator(".tip").is_hidden()
    page.locator("#training svg[data-curves]").first.hover()
    assert re.match(r"step \d+\nloss [\d.]+", page.inner_text(".tip"))


def test_without_scripts_all_of_it_can_be_read_and_downloaded(browser, page_file):
    context = browser.new_context(viewport=SIZES["phone"], java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"file://{page_file}")
    words = plain.inner_text("body")
    assert "Can I trust this?" in words
    assert "What is not here, and why" in words
    assert plain.locator("input").count() == plain.locator(".sort").count() == 0
    with plain.expect_download() as started:
        plain.click("#experts .csv")
    assert started.value.path().read_text(encoding="utf-8").startswith("Expert,Risk difference")
    context.close()
