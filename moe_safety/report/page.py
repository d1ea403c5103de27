"""From plain data to the page: which sections there are, and what their templates may say and draw.

A section is a title here, a template of its name, and a part of the context that is empty where nothing is to be said.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from moe_safety.evaluate import span
from moe_safety.report import asking, describe, panels, sweeping, tables
from moe_safety.report.caveats import caveats
from moe_safety.report.context import Context
from moe_safety.report.figures.curves import swatch
from moe_safety.report.figures.heatmap import heatmap, scale, wide
from moe_safety.report.figures.intervals import interval
from moe_safety.report.verdict import question, rate_text, verdict

_TITLES = {
    "asked": "What was asked",
    "budgets": "Does the choice of experts matter?",
    "arms": "What the arms do",
    "reattack": "Further attacks and suites",
    "experts": "Which experts",
    "overlap": "Overlap of batches",
    "agreement": "Agreement of methods",
    "training": "Training",
    "change": "What changed",
    "shift": "Routing shift",
    "examples": "Single prompts",
    "sweeps": "Sweeps",
    "timings": "Where the time went",
    "origins": "Settings, versions, hashes",
}
"""The sections in order; each is a template."""


def render(context: Context) -> str:
    """The whole page. It fetches nothing and runs no script: its own policy forbids both."""
    templates = Environment(
        loader=PackageLoader("moe_safety.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"shown": tables.shown, "lower_first": lambda title: title[:1].lower() + title[1:]}
    templates.filters |= {"title_of": lambda name, titles: titles[name], "in_words": lambda k, words: f"{words}{k}"}
    templates.globals |= {
        "heatmap": heatmap,
        "scale": scale,
        "wide": wide,
        "interval": interval,
        "rate_text": rate_text,
        "span": span,
        "swatch": swatch,
    }
    words = {"asking": asking, "describe": describe, "panels": panels, "tables": tables, "sweeping": sweeping}
    templates.globals |= words
    return templates.get_template("page.html.j2").render(
        run=context,
        css=Markup(files(__package__).joinpath("templates/page.css").read_text(encoding="utf-8")),
        sections={name: _TITLES[name] for name in _TITLES if _has(context, name)},
        question=question(context),
        verdict=verdict(context),
        caveats=caveats(context),
    )


def _has(context: Context, section: str) -> bool:
    """Whether there is something to say in it."""
    found = context.identification
    needed: dict[str, Any] = {
        "budgets": context.budgets,
        "arms": context.arms,
        "reattack": context.wrappers or context.suites or context.identified_again,
        "experts": found and (found.maps or found.selected),
        "overlap": context.overlaps,
        "agreement": found and found.agreement,
        "training": context.training,
        "change": context.moved,
        "shift": context.shifted,
        "examples": context.examples,
        "sweeps": context.sweeps,
        "timings": context.timings.stages,
    }
    return bool(needed.get(section, True))
