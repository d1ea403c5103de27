"""From plain data to the page: which sections there are, and what their templates may say and draw.

A section is a title here, a template of its name, and a part of the context that is empty where nothing is to be said.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from moe_safety.evaluate import span, told_account
from moe_safety.report import asking, describe, download, panels, sweeping, tables
from moe_safety.report.absent import absent
from moe_safety.report.caveats import by_topic
from moe_safety.report.context import Context
from moe_safety.report.figures.curves import swatch
from moe_safety.report.figures.heatmap import heatmap, scale, wide
from moe_safety.report.figures.intervals import before_and_after, interval
from moe_safety.report.tiles import by_layer, tiles
from moe_safety.report.trust import checks
from moe_safety.report.verdict import beside, question, rate_text, verdict

_TITLES = {
    "trust": "Can I trust this?",
    "budgets": "Does the choice of experts matter?",
    "arms": "What the arms do",
    "kept": "No worse than the base?",
    "firm": "How firm the repair is",
    "reattack": "Further attacks and suites",
    "asked": "What was asked",
    "experts": "Which experts",
    "batches": "Batches by experts",
    "overlap": "Overlap of batches",
    "agreement": "Agreement of methods",
    "training": "Training",
    "change": "What changed",
    "shift": "Routing shift",
    "examples": "Single prompts",
    "sweeps": "Sweeps",
    "absent": "What is not here, and why",
    "timings": "Where the time went",
    "origins": "Settings, versions, hashes",
}
"""The sections in order; each is a template."""


def render(context: Context) -> str:
    """The whole page. It fetches nothing and runs no script but its own, which its policy names by its hash."""
    templates = Environment(
        loader=PackageLoader("moe_safety.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"shown": tables.shown, "lower_first": lambda title: title[:1].lower() + title[1:]}
    templates.filters |= {"title_of": lambda name, titles: titles[name], "in_words": lambda k, words: f"{words}{k}"}
    templates.filters["file_name"] = lambda title: re.sub(r"\W+", "_", title.lower()).strip("_")
    templates.globals |= {
        "heatmap": heatmap,
        "scale": scale,
        "wide": wide,
        "interval": interval,
        "before_and_after": before_and_after,
        "rated": download.rated,
        "csv": download.address,
        "rate_text": rate_text,
        "span": span,
        "told_account": told_account,
        "swatch": swatch,
    }
    words = {"asking": asking, "describe": describe, "panels": panels, "tables": tables, "sweeping": sweeping}
    templates.globals |= words
    topics, script = by_topic(context), _own("page.js")
    # What stands between the tags is what is hashed.
    hashed = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    return templates.get_template("page.html.j2").render(
        run=context,
        css=_own("page.css"),
        script=script,
        script_hash=f"sha256-{hashed}",
        sections={name: _TITLES[name] for name in _TITLES if _has(context, name)},
        question=question(context),
        verdict=verdict(context),
        headline=[*topics.get("wrappers", []), *topics.get("choice", []), *beside(context)],
        tiles=tiles(context),
        experts=by_layer(context.named[1]),
        checks=checks(context),
        absent=absent(context),
    )


def _own(name: str) -> Markup:
    return Markup(files(__package__).joinpath(f"templates/{name}").read_text(encoding="utf-8").rstrip("\n"))


def _has(context: Context, section: str) -> bool:
    """Whether there is something to say in it."""
    found = context.identification
    needed: dict[str, Any] = {
        "budgets": context.budgets,
        "arms": context.arms,
        "kept": context.weighed or context.reworded,
        "firm": context.held_back or context.after_finetuning,
        "reattack": context.wrappers or context.suites or context.identified_again,
        "experts": found and (found.maps or found.selected),
        "batches": context.by_batch,
        "overlap": context.overlaps,
        "agreement": found and found.agreement,
        "training": context.training,
        "change": context.moved,
        "shift": context.shifted,
        "examples": context.examples,
        "sweeps": context.sweeps,
        "absent": absent(context),
        "timings": context.timings.stages,
    }
    return bool(needed.get(section, True))
