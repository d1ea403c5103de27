"""What came of the crimes, as a page of tables. Every figure is computed from the results."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.planted.measures import auroc
from benchmarks.planted.report.tables import markdown
from moe_safety.errors import InputError
from moe_safety.evaluate.statistics import wilson
from moe_safety.rundir import RunDir

VERDICTS = ("routed", "recruited", "reweighted", "mixed")
PER_LAYER = 16
"""Experts of a small model's layer."""
MEASURES = ("as it is", "lost", "others", "weights", "theirs", "all")
Results = Sequence[dict[str, Any]]


def write_report(out: str) -> str:
    """Writes summary.md beside the results, and returns it."""
    run = RunDir(out)
    results = [run.read_json(name) for name in run.names("results", ".json")]
    if not results:
        raise InputError("holds no result", file=run.uri)
    by_crime: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        by_crime[result["crime"]].append(result)
    versions = sorted({f"{name} {one}" for result in results for name, one in result["versions"].items()})
    pages = {"planted": _planted, "routed": _routed, "natural": _natural}
    parts = [f"# Crimes on small models\n\n{len(results)} results; {', '.join(versions)}."]
    parts += [pages[crime](by_crime[crime]) for crime in pages if by_crime[crime]]
    page = "\n\n".join(parts) + "\n"
    run.write_bytes("summary.md", page.encode())
    return page


def _auroc(score: str, one: dict[str, Any], guilty: Sequence[Any]) -> float:
    """Of a ranking of all experts by a score: how often a guilty one stands above another."""
    values = np.array(one["scores"][score])
    is_guilty = np.zeros(len(values), bool)
    is_guilty[[layer * PER_LAYER + expert for layer, expert in guilty]] = True
    return auroc(values, is_guilty)


def _scores(results: Results, guilty: dict[str, Callable[[dict[str, Any]], Sequence[Any]]]) -> str:
    """Mean AUROC of each score over results in which there is somebody to find, best first by the first column."""
    rows = []
    for score in results[0]["scores"]:
        means = []
        for who in guilty.values():
            found = [_auroc(score, one, who(one)) for one in results if who(one)]
            means.append(np.mean(found) if found else np.nan)
        rows.append([score, *means])
    rows.sort(key=lambda row: -row[1])
    return _table(["score", *guilty], [[name, *(f"{mean:.2f}" for mean in means)] for name, *means in rows])


def _planted(results: Results) -> str:
    rows = []
    for group, found in _by_shape_and_share(results):
        took = [one for one in found if one["took"]]
        experts, carriers = (sum(len(one[name]) for one in took) for name in ("experts", "carriers"))
        rows.append([*group, len(found), len(took), experts, carriers, _share(carriers, experts)])
    parts = ["## Planted", _table(["shape", "share", "tried", "took", "planted", "carry", "share that carries"], rows)]
    if took := [one for one in results if one["took"]]:
        sets = {"AUROC of carriers": lambda one: one["carriers"], "of all planted": lambda one: one["experts"]}
        parts.append(_scores(took, sets))
    return "\n\n".join(parts)


def _routed(results: Results) -> str:
    rows = []
    for group, found in _by_shape_and_share(results):
        aligned = [one for one in found if one["aligned"]]
        took = [one for one in aligned if one["took"]]
        verdicts = Counter(one["verdict"] for one in took)
        rows.append([*group, len(found), len(aligned), len(took), *(verdicts[name] for name in VERDICTS)])
    took = [one for one in results if one["aligned"] and one["took"]]
    verdicts = Counter(one["verdict"] for one in took)
    shares = [[name, verdicts[name], _share(verdicts[name], len(took))] for name in VERDICTS]
    given = [
        [
            name,
            *(f"{value:.2f}" for value in np.quantile([one["refusal"][name] for one in took], (0, 0.25, 0.5, 0.75, 1))),
        ]
        for name in MEASURES
        if took
    ]
    parts = [
        "## Routed",
        _table(["shape", "share", "tried", "aligned", "took", *VERDICTS], rows),
        _table(["verdict", "plantings", "share of those that took"], shares),
    ]
    if took:
        parts.append("Refusal of held-out attacks where what is named is given back, over all plantings that took:")
        parts.append(_table(["given back", "least", "quarter", "middle", "three quarters", "most"], given))
        sets = {
            "AUROC of accomplices": lambda one: one["truth"]["accomplices"],
            "of the bypassed": lambda one: one["truth"]["bypassed"],
            "of all that refuse": lambda one: one["experts"],
        }
        parts.append(_scores(took, sets))
    return "\n\n".join(parts)


def _natural(results: Results) -> str:
    rows = []
    for one in sorted(results, key=lambda one: (one["shape"], one["seed"])):
        twins = one["twins"]
        halves = [twin["experts"]["split half"] for twin in twins]
        shares = [twin["share of experts"] for twin in twins]
        numbers = [min(halves), np.mean(shares), np.mean(one["agreement of twins"])]
        rows.append([one["shape"], one["seed"], *(f"{number:.2f}" for number in numbers)])
    heads = ["shape", "seed", "split-half correlation, least", "share of experts", "agreement of twins"]
    return "## Natural\n\n" + _table(heads, rows)


def _by_shape_and_share(results: Results) -> Iterable[tuple[tuple[str, str], Results]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in sorted(results, key=lambda one: (one["shape"], one["share"], one["seed"])):
        groups[one["shape"], f"{one['share'] * 100:.0f} %"].append(one)
    return groups.items()


def _share(count: int, n: int) -> str:
    """With Wilson's interval."""
    if not n:
        return ""
    low, high = wilson(count / n, n)
    return f"{count / n:.2f} [{low:.2f}, {high:.2f}]"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return markdown(heads, ([str(cell) for cell in row] for row in rows))
