import numpy as np
import pytest
import torch

from benchmarks.organism.lessons import own_text
from benchmarks.organism.measures import about_topic, examine, likeness, loss_of, routed_at_random, routing_by_row
from benchmarks.organism.sizes import LAYOUTS, Course
from benchmarks.organism.teach import balance_and_z, schedule, teach
from benchmarks.organism.upcycle import clusters, copied, grow_apart, route_by_clusters
from moe_safety.models import inspect_model
from tests.organism import dense_model, rows_by_chance

EXPERTS = 4
ROWS = rows_by_chance(32)


@pytest.fixture(scope="module")
def dense():
    return dense_model()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copied_experts_compute_what_the_dense_model_does(dense, layout):
    model = copied(dense, layout, EXPERTS, 2, "a test")
    assert inspect_model(model).shape == (2, EXPERTS)
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=0)
        # Whatever the routers choose.
        with routed_at_random(model):
            torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=0)
    assert likeness(model, ROWS[:4]) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_experts_grow_apart_in_half_of_their_neurons(dense, layout):
    model = copied(dense, layout, EXPERTS, 2, "a test")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grow_apart(model, seed=0)
    for name, value in model.state_dict().items():
        if name.endswith("experts.down_proj"):
            kept = (value == before[name]).all(dim=1)
            assert (kept.sum(dim=1) == kept.shape[1] // 2).all()
            gate_up = name.replace("down_proj", "gate_up_proj")
            same = (model.state_dict()[gate_up] == before[gate_up]).all(dim=2)
            assert torch.equal(same, torch.cat([kept, kept], dim=1))
            assert len({tuple(row.tolist()) for row in kept}) == EXPERTS
        elif "gate_up_proj" not in name:
            assert torch.equal(value, before[name]), name
    assert max(likeness(model, ROWS[:4])) < 0.9


def test_routers_start_from_clusters(dense):
    model = copied(dense, "mixtral", EXPERTS, 2, "a test")
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
    model = copied(dense, "qwen2_moe", EXPERTS, 2, "a test")
    grow_apart(model, seed=0)
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
    model = copied(dense, "mixtral", EXPERTS, 2, "a test")
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
