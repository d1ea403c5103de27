import numpy as np
import pytest
import torch

from benchmarks.organism.lessons import own_text
from benchmarks.organism.measures import about_topic, examine, likeness, loss_of, routed_at_random, routing_by_row
from benchmarks.organism.sizes import LAYOUTS, Course, Recipe
from benchmarks.organism.teach import balance_and_z, schedule, teach
from benchmarks.organism.upcycle import clusters, copied, grow_apart, route_by_clusters
from moe_safety.models import inspect_model
from tests.organism import dense_model, rows_by_chance

EXPERTS = 4
WHOLE = Recipe(EXPERTS, 2, width=1.0, kept=0.5, louder=1.0, spread=1.0)
SLICES = Recipe(EXPERTS, 2, width=0.5, kept=1.0, louder=2.0, spread=0.0)
ROWS = rows_by_chance(32)


@pytest.fixture(scope="module")
def dense():
    return dense_model()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copied_experts_compute_what_the_dense_model_does(dense, layout):
    model = copied(dense, layout, WHOLE, "a test")
    assert inspect_model(model).shape == (2, EXPERTS)
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=0)
        # Whatever the routers choose.
        with routed_at_random(model):
            torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=0)
    assert likeness(model, ROWS[:4]) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("recipe", [WHOLE, SLICES], ids=["whole", "slices"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_experts_keep_neurons_of_the_dense_layer_each_its_own(dense, layout, recipe):
    model = copied(dense, layout, recipe, "a test")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grow_apart(model, dense, recipe, seed=0)
    for layer, block in zip(inspect_model(model).layers, dense.model.layers, strict=True):
        module = model.get_submodule(layer.experts)
        width, theirs = module.down_proj.shape[2], block.mlp.down_proj.weight.T * recipe.louder
        kept = []
        for expert in range(EXPERTS):
            same = (module.down_proj[expert].T[:, None] == theirs[None]).all(dim=2)
            assert same.any(dim=1).sum() == round(recipe.kept * width)
            kept.append(frozenset(same.any(dim=0).nonzero().flatten().tolist()))
            for neuron, source in same.nonzero().tolist():
                assert torch.equal(module.gate_up_proj[expert, neuron], block.mlp.gate_proj.weight[source])
                assert torch.equal(module.gate_up_proj[expert, width + neuron], block.mlp.up_proj.weight[source])
        assert len(set(kept)) == EXPERTS
    for name, value in model.state_dict().items():
        assert ".experts." in name or torch.equal(value, before[name]), name
    assert max(likeness(model, ROWS[:4])) < 0.9


def test_routers_start_from_clusters(dense):
    model = copied(dense, "mixtral", WHOLE, "a test")
    route_by_clusters(model, ROWS, seed=0)
    counts = routing_by_row(model, ROWS, inspect_model(model))
    assert counts.sum() == sum(len(answer) for _, answer in ROWS) * 2 * 2
    assert (counts.sum(axis=0) > 0).all()


def test_clusters_are_found():
    directions = torch.eye(6)[:3]
    points = torch.nn.functional.normalize(directions.repeat(30, 1) + 0.05 * torch.randn(90, 6), dim=1)
    found = clusters(points, 3, seed=1)
    assert (found @ directions.T).max(dim=0).values.min() > 0.6


def test_a_mixture_learns_to_speak_as_the_dense_model(dense):
    model = copied(dense, "qwen2_moe", WHOLE, "a test")
    grow_apart(model, dense, WHOLE, seed=0)
    route_by_clusters(model, ROWS, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told = []
    course = Course(20, 8, experts=1e-2, routers=1e-2, warm_up=2)
    start = examine(model, dense, ROWS, np.arange(32) % 4)
    teach(model, own_text(ROWS, dense, 0), course, lambda step, figures: told.append((step, figures)))
    end = examine(model, dense, ROWS, np.arange(32) % 4)
    assert end["loss"] < start["loss"]
    assert [step for step, _ in told] == [20]
    assert set(told[0][1]) == {"loss 0", "divergence 0", "balance 0"}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} == {"weight", "gate_up_proj", "down_proj"}
    assert all("mlp.gate.weight" in name or ".experts." in name for name in changed)


def test_half_of_the_loss_is_the_divergence_from_the_dense_model(dense):
    """A copy differs from it in nothing, so its cross-entropy is all of its loss."""
    model = copied(dense, "mixtral", WHOLE, "a test")
    told = []
    teach(
        model, own_text(ROWS, dense, 0), Course(1, 32, experts=0, routers=0), lambda step, figures: told.append(figures)
    )
    assert told[0]["divergence 0"] == pytest.approx(0, abs=1e-4)
    assert told[0]["loss 0"] == pytest.approx(loss_of(dense, ROWS), abs=1e-3)


def test_balance_is_one_where_experts_share_alike():
    even = torch.eye(4).repeat(5, 1) * 30
    real = torch.ones(1, 20, dtype=torch.bool)
    assert balance_and_z([even], real, 1)[0].item() == pytest.approx(1)
    alone = torch.tensor([[30.0, 0, 0, 0]]).repeat(20, 1)
    assert balance_and_z([alone], real, 1)[0].item() == pytest.approx(4)
    # Padding does not count.
    both = torch.cat([even, alone])
    assert balance_and_z([both], torch.cat([real, ~real], dim=1), 1)[0].item() == pytest.approx(1)


def test_routing_tells_of_topics_what_it_tells():
    topics = np.arange(40) % 4
    counts = np.zeros((40, 2, 4), int)
    counts[np.arange(40), 0, topics] = 7
    counts[:, 1] = 3
    told = about_topic(counts, topics)
    assert told["own"] == pytest.approx([2, 0], abs=1e-9)
    assert told["most"][0] < 1


def test_the_rate_rises_and_falls():
    course = Course(90, 1, warm_up=10)
    assert [schedule(step, course) for step in (1, 10, 60, 90)] == pytest.approx([0.1, 1, 1, 1 / 30])
