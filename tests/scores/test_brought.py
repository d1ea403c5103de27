"""Scores of other packages: one file each, and everything knows them."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from moe_safety.identify import pictures, read_selection
from moe_safety.identify.identify import identify, select_by
from moe_safety.identify.pictures import heatmap
from moe_safety.models.io import model_fingerprint
from moe_safety.pipeline import SELECTION
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from moe_safety.scores import SCORES, score_in_force
from tests.identify.synthetic import invent, make_layout, with_settings

CODE = """
from moe_safety.config import Section
from moe_safety.scores import Reads, RoutingScore, SAFE, Score, UNSAFE


class Settings(Section):
    share: float = 0.5


def tempered(sums, settings):
    return sums.rate(UNSAFE) - settings.share * sums.rate(SAFE)


of_routing = RoutingScore(
    name="tempered", title="Tempered difference", definition="Unsafe minus a share of safe", heading="Tempered",
    unit="share", sign="more is guiltier: yes", formula=tempered, column="tempered", section=Settings,
    interval=("low_tempered", "high_tempered"),
)
of_own_stage = Score(
    name="novelty", method="novel", title="Novelty", definition="How new it is", heading="Novelty", unit="none",
    sign="more is guiltier: yes", reads=Reads("novelties", "novelties.parquet", lambda config: {"novel": 1}),
    formula=lambda table: table["novelty"].to_numpy(), columns=("novelty",), default=True, lowest=0.0,
)
"""


@pytest.fixture
def brought(tmp_path_factory, monkeypatch):
    """A package with two scores, as if it were installed."""
    folder = tmp_path_factory.mktemp("packages")
    info = folder / "brought-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.2\n")
    points = "[moe_safety.scores]\ntempered = brought_scores:of_routing\nnovelty = brought_scores:of_own_stage\n"
    (info / "entry_points.txt").write_text(points)
    (folder / "brought_scores.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "brought_scores", raising=False)
    monkeypatch.setattr(SCORES, "_brought", {})
    SCORES.__dict__.pop("_plugins", None)
    yield
    SCORES.__dict__.pop("_plugins", None)


@pytest.fixture
def titles(monkeypatch):
    """Of the large maps that are drawn."""
    found = []
    monkeypatch.setattr(pictures, "heatmap", lambda *args: found.append(args[3]) or heatmap(*args))
    return found


@pytest.mark.usefixtures("brought")
def test_a_brought_score_of_routing_selects_and_is_told(tmp_path, capsys, titles):
    config = invent(make_layout((8, 8))).write(tmp_path, score="tempered", threshold=0.0)
    config = type(config).model_validate(config.model_dump() | {"scores": {"tempered": {"share": 0.25}}})
    manifest, run = identify(config), RunDir(config.run_dir)
    table = run.read_table("risk_diff.parquet").to_pandas()
    tempered = table["a_unsafe_n"] - 0.25 * table["a_safe_n"]
    np.testing.assert_allclose(table["tempered"], tempered)
    assert (table["low_tempered"] < tempered).all()
    assert (tempered < table["high_tempered"]).all()
    chosen = read_selection(run)
    best = table.iloc[np.argsort(-tempered.to_numpy(), kind="stable")[:3]]
    assert chosen.experts == list(zip(best["layer"], best["expert"], strict=True))
    assert (chosen.method, chosen.score) == ("routing", "tempered")
    assert set(chosen.per_batch[0]) <= set(map(tuple, table[["layer", "expert"]].to_numpy()))
    assert "tempered" in run.read_table("batch_risk_diff.parquet").column_names
    printed = capsys.readouterr().out
    assert "selected by routing: tempered > 0.0, top_k 3" in printed
    assert "top 10 by tempered, share:" in printed
    assert titles == ["Tempered difference"]
    assert manifest["inputs"]["score tempered"].startswith("1.2 ")
    assert manifest["settings"]["score"] == {"share": 0.25}
    assert select_by(config, "again") == "selections/again/selection.json"
    assert read_selection(run, "selections/again/selection.json").experts == chosen.experts


@pytest.mark.usefixtures("brought")
def test_its_own_least_holds_for_every_batch(tmp_path):
    config = invent(make_layout((8, 8))).write(tmp_path, score="tempered", threshold=1.0, top_k=3)
    score = SCORES.get("tempered")
    object.__setattr__(score, "lowest", None)
    identify(config, pictures=False)
    select_by(config, "again")
    chosen, again = (
        read_selection(RunDir(config.run_dir), name) for name in (SELECTION, f"selections/again/{SELECTION}")
    )
    assert len(chosen.experts) == 3
    assert chosen.per_batch == again.per_batch
    assert all(len(own) == 3 for own in chosen.per_batch.values())


@pytest.mark.usefixtures("brought")
def test_a_brought_score_may_bring_a_method_and_its_stage(tmp_path, capsys, titles):
    config = invent(make_layout((8, 8))).write(tmp_path, method="novel", top_k=4)
    run, novelty = RunDir(config.run_dir), np.random.default_rng(1).permutation(16) / 16 - 0.8

    def body():
        layers, experts = np.divmod(np.arange(16), 8)
        table = pa.table({"layer": layers, "expert": experts, "novelty": novelty})
        run.write_table("novelties.parquet", table)
        return Outcome(("novelties.parquet",), {})

    stage = Work("novelties", {"novel": 1}, ("batches.parquet",), {"model": model_fingerprint(config.model)})
    run_work(run, stage, {}, body)
    identify(config)
    chosen = read_selection(run)
    assert chosen.experts == [divmod(int(place), 8) for place in np.argsort(-novelty)[:3]]
    assert (chosen.method, chosen.score, chosen.threshold) == ("novel", "novelty", 0.0)
    assert "3 experts selected by novel: novelty > 0.0, top_k 4" in capsys.readouterr().out
    assert titles == ["Risk difference (unsafe − safe)", "Novelty"]
    pairs = {(row["a"], row["b"]) for row in run.read_table("agreement.parquet").to_pylist()}
    assert pairs == {("routing", "novel")}
    matched = with_settings(config, method="random_layer_matched", matches="novel")
    assert matched.identify.ranked_by == "novelty"


@pytest.mark.usefixtures("brought")
def test_settings_of_a_brought_score_have_its_defaults(tmp_path):
    config = invent().write(tmp_path, score="tempered")
    assert score_in_force(config).formula.keywords["settings"].share == 0.5


def test_without_the_package_the_name_is_unknown(tmp_path):
    with pytest.raises(ValidationError, match=r"there is no score 'tempered'.* Known: risk_diff, "):
        invent().write(tmp_path, score="tempered")
    with pytest.raises(ValidationError, match=r"there is no method 'novel'\. Known: routing, causal, gradient, random"):
        invent().write(tmp_path, method="novel")
