import numpy as np

from moe_safety.identify import Experts, pictures
from moe_safety.identify.identify import identify
from moe_safety.identify.pictures import PANELS, heatmap, ranking, small_maps
from moe_safety.rundir import RunDir
from tests.identify.synthetic import invent, make_layout

EXPERTS = Experts.of_layout(make_layout((3, 5), first=4))


def test_a_heatmap_begins_at_0_with_layers_by_index_and_chosen_experts_marked():
    values = np.linspace(-0.1, 0.4, 8)
    axes, bar = heatmap(EXPERTS, values, [(5, 4), (4, 2)], "Difference").axes
    (image,) = axes.images
    assert image.get_clim() == (0, 0.4)
    assert (image.get_array().min(), bar.get_ylabel()) == (0, "0 and below alike")
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False] * 3 + [True] * 2, [False] * 5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["4", "5"]
    assert axes.collections[0].get_offsets().tolist() == [[4, 1], [2, 0]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("expert", "layer")


def test_the_ranking_names_experts_of_the_guilty_sign_alone(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "ranking", lambda *args: figures.append(ranking(*args)) or figures[-1])
    run = RunDir(identify_here(tmp_path).run_dir)
    table = run.read_table("risk_diff.parquet").to_pandas()
    guilty = table[table["risk_diff"] > 0].sort_values("risk_diff", ascending=False)["Layer_Expert"].tolist()
    _, best = figures[0].axes
    assert 0 < len(guilty) < len(table)
    assert [label.get_text() for label in best.get_yticklabels()] == guilty
    assert len(figures[0].axes[0].texts) == 0, "no name among all experts"


def identify_here(folder):
    config = invent().write(folder)
    identify(config)
    return config


def test_a_heatmap_of_nothing_defined():
    (image,) = heatmap(EXPERTS, np.full(8, np.nan), [], "Difference").axes[0].images
    assert np.ma.getmaskarray(image.get_array()).all()


def test_small_maps_share_their_colours_and_hide_unused_places():
    scores = np.stack([np.linspace(0, peak, 8) for peak in (0.1, 0.2, 0.3, 0.4, 0.5)])
    figure = small_maps(EXPERTS, scores, [[]] * 5, list("abcde"), "Difference by batch")
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == list("abcde")
    assert {axes.images[0].get_clim() for axes in drawn} == {(0, 0.5)}
    assert sum(not axes.axison for axes in figure.axes) == 3


def test_many_batches_are_capped_and_the_same_numbers_give_the_same_bytes(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "small_maps", lambda *args: figures.append(small_maps(*args)) or figures[-1])
    made = invent(goals=2 * (PANELS + 4), per_batch=2, categories=())
    outputs = [identify(made.write(tmp_path / name))["outputs"] for name in "ab"]
    drawn = [{name: digest for name, digest in found.items() if name.endswith(".png")} for found in outputs]
    assert drawn[0] == drawn[1]
    assert drawn[0].keys() == {"risk_diff.png", "risk_diff_batches.png", "risk_rank.png"}
    assert RunDir(str(tmp_path / "a/run")).read_bytes("risk_diff.png").startswith(b"\x89PNG")
    assert sum(bool(axes.images) for axes in figures[0].axes) == PANELS
    assert figures[0].get_suptitle().endswith(f"by batch (first {PANELS} of {PANELS + 4})")
