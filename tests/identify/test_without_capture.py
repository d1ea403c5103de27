"""Methods that do not rank by routing need no `capture`, and say what is missing for want of it."""

import numpy as np
import pyarrow as pa
import pytest
from transformers import OlmoeConfig

from moe_safety.errors import InputError
from moe_safety.identify import pictures, read_selection
from moe_safety.identify.identify import identify
from moe_safety.identify.pictures import heatmap
from moe_safety.models.io import model_fingerprint
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from moe_safety.scores import SCORES as DECLARED
from tests.identify.synthetic import invent, make_layout

SCORES = np.random.default_rng(3).permutation(16) / 16
BEST = [divmod(int(place), 8) for place in np.argsort(-SCORES)[:3]]
COLUMNS = {"gradient": ("gradient", "gradient_l2", "gradient_per_token"), "causal": ("effect", "first_order")}
ALWAYS = {"overlap.parquet", "expert_overlap.parquet", "selection.json", "expert_mask.npy", "batch_expert_masks.npy"}


def prepared(folder, labels=("safe", "unsafe"), **settings):
    """As the stages up to `compose` leave it; the model is two layers of eight experts."""
    made = invent(make_layout((8, 8)), goals=8, per_batch=4)
    made.places = [place for place in made.places if place[1] in labels]
    config = made.write(folder, **settings)
    OlmoeConfig(num_hidden_layers=2, num_experts=8, hidden_size=32, intermediate_size=8).save_pretrained(
        config.model.name
    )
    RunDir(config.run_dir).delete("manifests/capture.json")
    return config


def score(config, method, scores=SCORES):
    """As the method's stage leaves it."""
    run, reads = RunDir(config.run_dir), next(score.reads for score in DECLARED if score.method == method)

    def body():
        layers, experts = np.divmod(np.arange(16), 8)
        run.write_table(
            reads.table, pa.table({"layer": layers, "expert": experts, **dict.fromkeys(COLUMNS[method], scores)})
        )
        return Outcome((reads.table,), {})

    others = {"model": model_fingerprint(config.model)}
    run_work(run, Work(reads.stage, reads.settings(config), ("batches.parquet",), others), {}, body)
    return config


@pytest.mark.parametrize("labels", [("safe", "unsafe"), ("unsafe",)])
@pytest.mark.parametrize("method", ["gradient", "causal"])
def test_another_method_selects_and_says_that_routing_is_missing(tmp_path, capsys, monkeypatch, method, labels):
    titles = []
    monkeypatch.setattr(pictures, "heatmap", lambda *args: titles.append(args[3]) or heatmap(*args))
    config = score(prepared(tmp_path, labels, method=method), method)
    manifest = identify(config)
    selection = read_selection(RunDir(config.run_dir))
    assert selection.experts == selection.per_batch[0] == selection.per_batch[1] == BEST
    assert selection.inputs.keys() == {"prompts.parquet", "batches.parquet"}
    assert manifest["outputs"].keys() == ALWAYS | {"agreement.parquet", "score.png"}
    assert not RunDir(config.run_dir).exists("risk_diff.parquet")
    assert "these take the counts of `capture`, which was not run" in capsys.readouterr().out
    assert [title.endswith(", routing not captured") for title in titles] == [True]
    assert identify(config)["skipped"]


def test_a_layer_matched_draw_follows_the_effects_unless_told_otherwise(tmp_path, capsys):
    config = prepared(tmp_path, method="random_layer_matched")
    with pytest.raises(InputError, match=r"`causal` needs expert_effects.parquet; run `effects` first"):
        identify(config)
    identify(score(config, "causal"))
    drawn = read_selection(RunDir(config.run_dir))
    assert sorted(layer for layer, _ in drawn.experts) == sorted(layer for layer, _ in BEST)
    assert (drawn.matches, drawn.score) == ("causal", None)
    assert "selected by random_layer_matched, as many as by causal: effect > 0.0, top_k 3" in capsys.readouterr().out


def test_fewer_than_were_asked_for_is_said(tmp_path, capsys):
    """Half of the effects are negative: these experts carry the refusal."""
    config = score(prepared(tmp_path, method="causal", top_k=12), "causal", SCORES - 0.5)
    identify(config)
    assert len(read_selection(RunDir(config.run_dir)).experts) == 7
    printed = capsys.readouterr().out
    assert "7 experts selected by causal: effect > 0.0, top_k 12" in printed
    assert "fewer than top_k 12: no other expert has this score above 0.0" in printed


def test_chance_needs_no_scores(tmp_path, capsys):
    config = prepared(tmp_path, method="random")
    assert identify(config)["outputs"].keys() == ALWAYS | {"agreement.parquet"}
    assert len(read_selection(RunDir(config.run_dir)).experts) == 3
    assert "which was not run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "routing"},
        {"method": "random_layer_matched", "matches": "routing"},
        {"method": "random", "matches": "routing", "top_p": 0.5},
    ],
)
def test_what_follows_from_routing_needs_capture(tmp_path, settings):
    with pytest.raises(InputError, match="`capture` has not been run yet"):
        identify(prepared(tmp_path, **settings))


def test_scores_must_be_of_this_model_and_of_these_batches(tmp_path):
    config = prepared(tmp_path, method="gradient")
    with pytest.raises(InputError, match=r"`gradient` needs expert_gradients.parquet; run `gradients` first"):
        identify(config)
    run = RunDir(score(config, "gradient").run_dir)
    run.write_table("batches.parquet", run.read_table("batches.parquet").slice(1))
    with pytest.raises(InputError, match="is of another model or of other batches; run `gradients` again"):
        identify(config)
