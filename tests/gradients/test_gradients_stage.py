import os
from functools import partial

import pandas as pd
import pyarrow as pa
import pytest
import torch

from moe_safety.batches.compose import compose
from moe_safety.errors import InputError
from moe_safety.gradients.collector import GradientCollector, build_collector
from moe_safety.gradients.gradients import gradients
from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.models.experts import gradient_magnitudes
from moe_safety.models.text.answer_losses import make_rows
from moe_safety.rundir import RunDir
from tests.gradients.forgetful import Forgetful

pytestmark = pytest.mark.usefixtures("ray_here")


def read(config):
    run = RunDir(config.run_dir)
    tables = [run.read_table(name) for name in run.names("gradients", ".parquet")]
    return pa.concat_tables(tables), run.read_table("expert_gradients.parquet")


def test_the_same_numbers_for_any_number_of_actors_and_after_a_resume(configured):
    one = configured("gradients.replicas=1", name="one")
    assert gradients(one)["summary"]["batches"] == 6
    two = configured("gradients.replicas=2", name="two")
    gradients(two)
    assert read(one)[0].equals(read(two)[0])
    assert read(one)[1].equals(read(two)[1])

    run = RunDir(two.run_dir)
    kept = os.stat(run.path("gradients/part-000000.parquet")).st_mtime_ns
    run.delete("gradients/_done/part-000003.json")
    run.delete("gradients/part-000004.parquet")
    assert not gradients(two)["skipped"]
    assert read(one)[1].equals(read(two)[1])
    assert os.stat(run.path("gradients/part-000000.parquet")).st_mtime_ns == kept, "what stood was not done again"
    assert gradients(two)["skipped"]

    check_the_mean(one)


def check_the_mean(config):
    """The table is the mean over batches of what the library function says of each."""
    table, experts = read(config)
    plan = Plan(RunDir(config.run_dir), "plans/gradients.parquet")
    collector = build_collector(config.model, config.gradients)
    torch.set_num_threads(1)
    scores, tokens = torch.zeros(4, 16, dtype=torch.float64), torch.zeros(4, 16, dtype=torch.float64)
    for item in range(len(plan)):
        rows = plan.rows(item)
        found = gradient_magnitudes(
            collector.model, [make_rows(rows["prompt"].to_pylist(), rows["target"].to_pylist())]
        )
        scores += found.scores()
        tokens += found.tokens
        assert len(rows) == (8 if item < 5 else 2), "the unsafe rows of the batch"
        assert sum(table["expert_tokens"][item].as_py()) == 4 * 4 * collector.tokens(rows), "4 experts of 4 layers each"
    frame = pd.DataFrame(experts.to_pydict())
    assert frame["layer"].tolist() == [layer for layer in range(4) for _ in range(16)]
    assert frame["gradient"].to_numpy() == pytest.approx((scores / len(plan)).flatten().numpy(), rel=1e-5)
    expected = (scores / tokens.clamp(min=1)).flatten().numpy()
    assert frame["gradient_per_token"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert (frame["gradient_l2"] >= frame["gradient"]).all()
    assert table["tokens"].to_pylist() == [8 * 12] * 5 + [2 * 12], "a refusal has twelve tokens"


def test_a_batch_that_does_not_fit_is_cut_and_says_so(configured):
    config = configured()
    gradients(config)
    whole = pd.DataFrame(read(config)[1].to_pydict())
    plan = Plan(RunDir(config.run_dir), "plans/gradients.parquet")
    parts = Parts(RunDir(config.run_dir), "cut", plan)
    report = run_job(Job(plan, parts, partial(Forgetful, config.model, config.gradients), config.gradients))
    assert report.notes == {str(item): {"micro_batches": 4} for item in range(5)}, "the last has but two rows"
    from moe_safety.gradients.table import fold

    cut = pd.DataFrame(
        fold(
            parts.tables(),
            GradientCollector(build_collector(config.model, config.gradients).model, config.gradients).layout,
        ).to_pydict()
    )
    assert cut["gradient"].to_numpy() == pytest.approx(whole["gradient"].to_numpy(), rel=1e-4)


def test_a_batch_without_unsafe_rows_is_an_error(configured):
    config = configured()
    run = RunDir(config.run_dir)
    table = run.read_table("batches.parquet")
    run.write_table("batches.parquet", table.filter(pa.compute.not_equal(table["label"], "unsafe")))
    with pytest.raises(InputError, match=r"batches.parquet: batch 0 has no unsafe row"):
        gradients(config)


def test_batches_of_attacks_alone_are_identified_without_capture(configured):
    config = configured("batches.safe_ratio=0.0", "identify.method=gradient")
    compose(config, force=True)
    gradients(config)
    identify(config)
    frame = pd.DataFrame(read(config)[1].to_pydict()).nlargest(8, "gradient")
    selected = read_selection(RunDir(config.run_dir)).experts
    assert selected == list(zip(frame["layer"], frame["expert"], strict=True))
