"""The plan of `capture` where batches are many: no item has prompts of two stretches."""

import pyarrow as pa

from moe_safety.config import CaptureConfig
from moe_safety.jobs import Plan
from moe_safety.routing.plan import write_plan
from moe_safety.rundir import RunDir


def planned(tmp_path, prompts):
    """`prompts` by batch; of each prompt another length."""
    rows = [
        {"batch_idx": batch, "prompt_id": each, "prompt_tokens": [1] * (3 + int(each[1:]) * 7 % 5)}
        | {"answer_prefix": [2], "answer_tokens": [3, 4]}
        for batch, mine in enumerate(prompts)
        for each in mine
    ]
    run = RunDir(str(tmp_path))
    run.write_table("batches.parquet", pa.Table.from_pylist(rows))
    plan = Plan(run, "plan.parquet")
    with run.open_parquet("batches.parquet") as batches:
        write_plan(plan, batches, CaptureConfig(max_tokens_per_forward=16), "one")
    return [plan.rows(item)["prompt_id"].to_pylist() for item in range(len(plan))]


def test_each_prompt_is_in_one_item_and_each_item_in_one_stretch(tmp_path, monkeypatch):
    monkeypatch.setattr("moe_safety.batches.stretches.ROWS", 8)
    batches = [[f"p{batch * 4 + row}" for row in range(4)] for batch in range(9)]
    batches[0][0] = batches[5][2] = batches[8][1] = "p99"  # Such as a harmless request that is dealt again.
    items = planned(tmp_path, batches)
    assert sorted(each for item in items for each in item) == sorted({each for mine in batches for each in mine})
    stretch = {each: batch // 2 for batch, mine in enumerate(batches) for each in mine}
    assert items[0] == ["p99"]
    assert all(len({stretch[each] for each in item}) == 1 for item in items[1:])


def test_one_stretch_is_planned_as_ever(tmp_path):
    items = planned(tmp_path, [["p0", "p1", "p2", "p3"], ["p3", "p4", "p5", "p6"]])
    together = [each for item in items for each in item]
    assert sorted(together) == [f"p{number}" for number in range(7)]
    # Longest first, ties in the order of rows.
    assert together == sorted(sorted(together), key=lambda each: -(int(each[1:]) * 7 % 5))


def test_prompts_of_several_stretches_are_no_more_to_an_item_than_those_of_one(tmp_path, monkeypatch):
    for place in ("batches.stretches.ROWS", "routing.plan.ROWS", "routing.plan._ITEMS"):
        monkeypatch.setattr(f"moe_safety.{place}", 8)
    again = [[f"p{batch * 4 + row}" for row in range(4)] for batch in range(8)]
    shared = planned(tmp_path / "shared", again + again)
    alone = planned(tmp_path / "alone", again)
    assert sorted(each for item in shared for each in item) == sorted(each for mine in again for each in mine)
    assert max(map(len, shared)) <= max(map(len, alone))
