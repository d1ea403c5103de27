import tempfile
from pathlib import Path

import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_safety.errors import InputError, MoeSafetyError, RunError
from moe_safety.identify import Experts
from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.identify.reduce import Reducer, Reduction, _got, check_coverage
from moe_safety.jobs.cluster import connect
from moe_safety.jobs.pool import pool_of
from moe_safety.rundir import RunDir, summary_of
from moe_safety.scores import LABELS, Sums
from tests.identify.synthetic import Invented, invent, make_layout, resampled_goals

ADDED = ("categories", "resamples")


def reduced(made, folder, parts=2, column="counts", **options):
    """The rows, how often each goal counts, and the sums of all stretches put together."""
    config = made.write(Path(folder), parts)
    run = RunDir(config.run_dir)
    places, experts = read_batch_rows(run), Experts.of_layout(made.layout)
    files = summary_of(run, "capture")["files"]
    reducer = Reducer(run, files, check_coverage(run, files, places), places, experts, 20, seed=1)
    return places, resampled_goals(places, 20, seed=1), together(reducer.sums(column, **options))


def together(stretches):
    found = list(stretches)
    batches = Sums(np.concatenate([one.batches.values for one in found]))
    return Reduction(batches, *(Sums(sum(getattr(one, name).values for one in found)) for name in ADDED))


def naive(made, places, times):
    """The sums by loops over places, as exact Python integers."""
    flat = Experts.of_layout(made.layout).flat
    batches, categories, resamples = (
        np.zeros((groups, len(LABELS), 1 + len(flat)), dtype=object)
        for groups in (len(places.batch_ids), len(places.categories), times.shape[1])
    )
    goals = sorted({(label in ("safe", "unsafe"), goal) for _, label, goal in made.places})
    number = {}
    for place, (_, label, goal) in enumerate(made.places):
        number.setdefault((label in ("safe", "unsafe"), goal), places.goal[place])
    assert len(set(number.values())) == len(goals)
    for batch, label, goal in made.places:
        row = np.array([made.tokens[label, goal], *made.counts[label, goal].reshape(-1)[flat]], dtype=object)
        batches[batch, LABELS.index(label)] += row
        category = made.categories.get(("unsafe", goal))
        if category and label in ("safe", "unsafe"):
            categories[places.categories.index(category), LABELS.index(label)] += row
        for resample in range(times.shape[1]):
            often = int(times[number[label in ("safe", "unsafe"), goal], resample])
            resamples[resample, LABELS.index(label)] += often * row
    return batches, categories, resamples


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    goals=st.integers(2, 9),
    harmless=st.integers(0, 2),
    parts=st.integers(1, 4),
    reused=st.booleans(),
    categories=st.sampled_from([(), ("red",), ("red", "blue")]),
)
def test_sums_equal_loops_over_prompts(seed, sizes, goals, harmless, parts, reused, categories):
    made = invent(make_layout(sizes, first=2), goals, 2, harmless, seed, categories)
    if reused:
        made.places += [(0, *made.prompts[-1]), (0, *made.prompts[-1])]
    with tempfile.TemporaryDirectory() as folder:
        places, times, sums = reduced(made, folder, parts)
    for found, expected in zip(
        (sums.batches, sums.categories, sums.resamples), naive(made, places, times), strict=True
    ):
        assert found.values.dtype == np.int64
        assert np.array_equal(found.values, expected)


def test_the_integers_do_not_depend_on_the_parts(tmp_path):
    made = invent(goals=24, harmless=2)
    one, many = (reduced(made, tmp_path / str(parts), parts)[2] for parts in (1, 7))
    assert np.array_equal(one.resamples.values, many.resamples.values)
    assert np.array_equal(one.batches.values, many.batches.values)


def test_stretches_of_batches_add_up_to_the_same(tmp_path, monkeypatch):
    made = invent(goals=48, harmless=2, per_batch=3)
    made.places += [(15, *made.prompts[0]), (3, *made.prompts[-1])]
    whole = reduced(made, tmp_path / "whole", 4)[2]
    monkeypatch.setattr("moe_safety.batches.stretches.ROWS", 30)
    places, _, several = reduced(made, tmp_path / "several", 4)
    assert len(places.stretches()) == 6
    for name in ("batches", *ADDED):
        assert np.array_equal(getattr(whole, name).values, getattr(several, name).values)


def test_counts_beyond_the_integers_of_float32_stay_exact(tmp_path):
    made = Invented(make_layout((2,)))
    large = 2**21 - 1
    for goal in range(13):  # Their sums are odd.
        made.add(0, "safe", goal, large, [[large, large - 1]])
        made.add(0, "unsafe", goal, large, [[large - 2, 1]])
    places, times, sums = reduced(made, tmp_path, parts=1)
    for found, expected in zip((sums.batches, sums.resamples), naive(made, places, times)[::2], strict=True):
        assert np.array_equal(found.values, expected)


@pytest.mark.usefixtures("ray_here")
def test_ray_gives_the_same_integers(tmp_path):
    # Replicas that stayed from an earlier job hold every processor.
    connect()
    ray.get(pool_of(0).hold.remote(int(ray.cluster_resources()["CPU"])))
    made = invent(goals=24, harmless=2, per_batch=3)
    here = reduced(made, tmp_path / "here", parts=5)[2]
    there = reduced(made, tmp_path / "there", parts=5, distribute_above=10)[2]
    for name in ("batches", "categories", "resamples"):
        one, other = getattr(here, name).values, getattr(there, name).values
        assert one.dtype == other.dtype == np.int64
        assert np.array_equal(one, other)
    weights = [
        reduced(made, tmp_path / f"weights{above}", 5, "weights", distribute_above=above)[2] for above in (10, 999)
    ]
    assert np.array_equal(weights[0].batches.values, weights[1].batches.values)


@pytest.mark.parametrize(
    ("why", "raised", "told"),
    [
        (InputError("is broken", file="part"), InputError, "part: is broken"),
        (OSError("no such host"), RunError, "Ray gave up: OSError: no such host"),
    ],
)
def test_what_breaks_on_ray_is_told_in_a_line(monkeypatch, why, raised, told):
    pages = f"Traceback (most recent call last):\n  File\n{type(why).__name__}: {why}"

    def get(asked):
        raise ray.exceptions.RayTaskError("reduce", pages, why).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(MoeSafetyError) as found:
        _got(None)
    assert type(found.value) is raised
    assert str(found.value) == told


def test_weights_are_summed_like_counts(tmp_path):
    made = invent(harmless=1)
    counts, weights = (reduced(made, tmp_path / column, column=column)[2].batches for column in ("counts", "weights"))
    assert np.array_equal(counts.tokens, weights.tokens)
    # The invented weight of each routed token is a quarter.
    assert np.allclose(weights.experts, counts.experts / 4, rtol=1e-12)


def test_a_missing_and_a_doubled_prompt_are_named(tmp_path):
    made = invent()
    config = made.write(tmp_path)
    run = RunDir(config.run_dir)
    places, files = read_batch_rows(run), summary_of(run, "capture")["files"]
    assert check_coverage(run, files, places).uncounted == 0
    with pytest.raises(InputError, match="do not hold prompt safe-6 of the batches"):
        check_coverage(run, files[:1], places)
    with pytest.raises(InputError, match="hold more than once prompt safe-0"):
        check_coverage(run, [*files, files[0]], places)


def test_prompts_without_counted_tokens_are_counted(tmp_path):
    made = invent()
    made.tokens["safe", 1] = 0
    made.counts["safe", 1][:] = 0
    config = made.write(tmp_path)
    run = RunDir(config.run_dir)
    assert check_coverage(run, summary_of(run, "capture")["files"], read_batch_rows(run)).uncounted == 1


def test_a_goal_has_the_category_that_one_of_its_prompts_names(tmp_path):
    made = invent(harmless=1)
    made.categories["benign", 0] = "green"
    config = made.write(tmp_path)
    places = read_batch_rows(RunDir(config.run_dir))
    assert places.categories == ("blue", "red")
    of_first = [places.category[place] for place, (_, _, goal) in enumerate(made.places[:8]) if goal == 0]
    assert of_first[:2] == [1, 1]
    assert (places.category[places.label >= 2] == -1).all()
