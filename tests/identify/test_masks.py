"""Which batches share a mask: all, those of one category, or none; for every method whose scores can tell."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from moe_safety.effects.table import effects_table
from moe_safety.errors import InputError
from moe_safety.gradients.table import gradients_schema
from moe_safety.identify import Experts, read_selection
from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.identify.identify import identify, select_by
from moe_safety.identify.inputs import _by_batch
from moe_safety.identify.printing import _sizes_lines
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES
from tests.identify.synthetic import invent, make_layout, with_settings

LAYOUT = make_layout((8, 8))
EXPERTS = Experts.of_layout(LAYOUT)


def rows_of(folder, **options):
    """Four batches of two goals, of red, blue, red, blue, with a harmless row of each kind on top."""
    config = invent(LAYOUT, goals=8, per_batch=2, harmless=1, **options).write(folder)
    return RunDir(config.run_dir), read_batch_rows(RunDir(config.run_dir))


def collected(name, *tables):
    """The score, as if its stage had left these tables."""
    score = SCORES.get(name)
    return replace(score, reads=replace(score.reads, collected=lambda run: list(tables)))


def effects_of(values):
    """By prompt, [MoE layers, experts]."""
    labels = [prompt.partition("-")[0] for prompt in values]
    return effects_table(LAYOUT, list(values), labels, [0.0] * len(values), np.stack(list(values.values())))


@pytest.mark.parametrize("mask_of", ["batch", "category"])
def test_effects_of_a_batch_are_those_on_its_attacks_less_those_on_all_controls(tmp_path, mask_of):
    run, rows = rows_of(tmp_path)
    chance = np.random.default_rng(1)
    names = [f"unsafe-{goal}" for goal in range(8)] + [f"control-{goal}" for goal in range(4)]
    values = {name: chance.normal(size=LAYOUT.shape).astype(np.float32) for name in names}
    table = effects_of(values)
    found = _by_batch(run, collected("effect", table, table), EXPERTS, rows, mask_of)
    controls = np.mean([values[f"control-{goal}"] for goal in range(4)], axis=0)
    for batch in range(4):
        own = (
            [2 * batch, 2 * batch + 1]
            if mask_of == "batch"
            else [goal for goal in range(8) if goal // 2 % 2 == batch % 2]
        )
        expected = np.mean([values[f"unsafe-{goal}"] for goal in own], axis=0) - controls
        np.testing.assert_allclose(found[batch], expected.reshape(-1), rtol=1e-5)


def test_a_batch_without_a_measured_attack_is_named(tmp_path):
    run, rows = rows_of(tmp_path)
    table = effects_of({f"unsafe-{goal}": np.ones(LAYOUT.shape, np.float32) for goal in (0, 2)})
    score = collected("effect", table, table)
    with pytest.raises(InputError, match=r"identify\.masks: batch 2 has no attack that `effects` measured"):
        _by_batch(run, score, EXPERTS, rows, "batch")
    assert len(_by_batch(run, score, EXPERTS, rows, "category")) == 4


def test_gradients_of_a_category_are_the_mean_of_its_batches(tmp_path, monkeypatch):
    run, rows = rows_of(tmp_path)
    scores = np.random.default_rng(2).exponential(size=(4, 16))
    columns = [pa.array(range(4), pa.int32()), pa.array([9] * 4)]
    columns += [pa.array(list(map(list, each))) for each in (scores, scores, np.ones((4, 16), int))]
    schema = gradients_schema(LAYOUT)
    table = pa.Table.from_arrays(
        [one.cast(field.type) for one, field in zip(columns, schema, strict=True)], schema=schema
    )
    score = collected("gradient", table)
    monkeypatch.setattr(type(rows.prompt_ids), "names", lambda *_: pytest.fail("batches need no prompts looked up"))
    np.testing.assert_allclose(_by_batch(run, score, EXPERTS, rows, "batch"), scores)
    by_category = _by_batch(run, score, EXPERTS, rows, "category")
    np.testing.assert_allclose(by_category[0], (scores[0] + scores[2]) / 2)
    assert (by_category[1] == by_category[3]).all()
    few = collected("gradient", table.slice(1))
    with pytest.raises(InputError, match="the gradients are of other batches"):
        _by_batch(run, few, EXPERTS, rows, "batch")


def test_a_score_of_all_batches_together_has_none_of_one(tmp_path):
    run, rows = rows_of(tmp_path)
    score = replace(SCORES.get("effect"), reads=replace(SCORES.get("effect").reads, collected=None))
    with pytest.raises(InputError, match="effect is known of all batches together, and of none alone"):
        _by_batch(run, score, EXPERTS, rows, "batch")


def test_routing_has_masks_of_each_kind_and_the_same_from_its_tables(tmp_path, capsys):
    config = invent(LAYOUT, goals=24, per_batch=4, lift=np.eye(2, 8) * 0.4).write(tmp_path, threshold=0.0, top_k=3)
    run, found = RunDir(config.run_dir), {}
    for masks in ("global", "category", "batch"):
        here = with_settings(config, masks=masks)
        identify(here, force=True)
        found[masks] = read_selection(run)
        select_by(here, masks)
        assert read_selection(run, f"selections/{masks}/selection.json").per_batch == found[masks].per_batch
        assert found[masks].masks == masks
    everywhere, category, batch = (found[masks].per_batch for masks in ("global", "category", "batch"))
    assert all(chosen == found["global"].experts for chosen in everywhere.values())
    assert category[0] == category[2] == category[4] != category[1] == category[3]
    assert len(set(map(tuple, batch.values()))) > 2
    identify(with_settings(config, masks=None), force=True)
    assert read_selection(run).per_batch == batch, "each its own, as ever"
    assert "experts of each batch: 3" in capsys.readouterr().out


def test_batches_of_mixed_categories_share_no_mask(tmp_path):
    made = invent(LAYOUT, goals=8, per_batch=4)
    made.categories["unsafe", 0] = "green"
    with pytest.raises(InputError, match=r"batches\.group_by: batch 0 has attacks of no category, or of several"):
        identify(made.write(tmp_path, masks="category"))


def test_each_batch_s_number_of_experts_is_printed_in_lines_that_fit():
    lines = list(_sizes_lines({str(batch): batch % 7 for batch in range(300)}))
    assert lines[0].startswith("  experts of batch 0: 0, 1: 1, 2: 2, ")
    assert lines[-1].endswith("and 100 more")
    assert max(map(len, lines)) <= 80
