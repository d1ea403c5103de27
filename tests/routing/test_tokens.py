"""The experts of single tokens, kept beside the counts."""

from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest
import torch

from moe_safety.jobs import Parts, Plan
from moe_safety.jobs.item_halving import Halving
from moe_safety.models.experts import use_our_experts
from moe_safety.routing import reader as reading
from moe_safety.routing.plan import PLAN_SCHEMA
from moe_safety.routing.reader import RoutingReader
from moe_safety.routing.table import matrix
from moe_safety.routing.tokens import TOKENS, memberships
from moe_safety.rundir import RunDir
from tests.families import build

LENGTHS = [(5, 4), (9, 0), (3, 7), (4, 1), (2, 2)]
"""Of prompts and answers."""


def rows():
    chance = torch.Generator().manual_seed(11)
    made = [
        {
            "forward": number // 2,
            "prompt_id": f"p{number}",
            "tokens": torch.randint(3, 90, (prompt + answer,), generator=chance).tolist(),
            "counted_from": prompt,
            "counted_to": prompt + answer,
        }
        for number, (prompt, answer) in enumerate(LENGTHS)
    ]
    return pa.Table.from_pylist(made, schema=PLAN_SCHEMA)


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "zaya", "longcat_flash"])
def test_tokens_add_up_to_the_counts(family):
    reader = RoutingReader(use_our_experts(build(family)), per_token=True)
    counts, by_token = reader(rows(), {})
    assert counts.equals(RoutingReader(reader.model)(rows(), {}))
    found, layout = dict(memberships([by_token], reader.layout)), reader.layout
    assert list(found) == rows()["prompt_id"].to_pylist()
    by_prompt = matrix(counts, "counts").reshape(-1, *layout.shape)
    for number, (prompt, answer) in enumerate(LENGTHS):
        told = found[f"p{number}"]
        assert told.shape == (layout.n_moe_layers, prompt + answer, layout.max_experts)
        assert (told[:, prompt:].sum(axis=1) == by_prompt[number]).all()
    if family in ("olmoe", "gpt_oss"):
        # As readers of scores would choose.
        best = np.argpartition(found["p1"], -layout.layers[0].top_k)[..., -layout.layers[0].top_k :]
        told = [row["experts"] for row in by_token.to_pylist() if row["prompt_id"] == "p1"]
        assert np.sort(best.transpose(1, 0, 2).reshape(len(told), -1)).tolist() == np.sort(told).tolist()


@pytest.mark.parametrize("family", ["olmoe", "granitemoe", "deepseek_v3", "longcat_flash"])
def test_rows_that_stand_end_to_end_are_counted_as_padded_ones(family, monkeypatch):
    """Here attention keeps them apart by a mask."""
    reader = RoutingReader(use_our_experts(build(family)), per_token=True)
    padded, by_token = reader(rows(), {})
    monkeypatch.setattr(reading, "packing", lambda model: nullcontext(True))
    seen = []
    handle = reader.model.get_input_embeddings().register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    packed, told = reader(rows(), {})
    handle.remove()
    assert [ids.shape for ids in seen] == [(1, 18), (1, 15), (1, 4)], "no padding"
    assert told.equals(by_token)
    assert packed.drop_columns("weights").equals(padded.drop_columns("weights"))
    np.testing.assert_allclose(matrix(packed, "weights"), matrix(padded, "weights"), rtol=1e-5, atol=1e-6)
    alone, _ = reader(rows().slice(2, 1), {})
    assert alone.drop_columns("weights").equals(padded.drop_columns("weights").slice(2, 1))


def test_of_several_items_the_next_is_on_its_way_before_the_last_is_read(monkeypatch):
    reader, told, begun = RoutingReader(use_our_experts(build("olmoe"))), [], RoutingReader._begun

    def noted(self, some):
        told.append(("begun", len(some)))
        finish = begun(self, some)
        return lambda: told.append(("read", len(some))) or finish()

    items = [rows().slice(0, 1), rows().slice(1, 2), rows().slice(2, 3)]
    alone = [reader(item, {}) for item in items]
    monkeypatch.setattr(RoutingReader, "_begun", noted)
    found = list(reader.in_turn(items))
    assert all(map(pa.Table.equals, found, alone))
    assert told == [("begun", 1), ("begun", 2), ("read", 1), ("begun", 3), ("read", 2), ("read", 3)]
    assert list(reader.in_turn([])) == []


def test_what_a_row_says():
    """The first prompt's tokens, one after the other, by hand."""
    reader = RoutingReader(use_our_experts(build("mixtral")), per_token=True)
    layout, (_, by_token) = reader.layout, reader(rows(), {})
    first = by_token.slice(0, 9 * layout.n_moe_layers).to_pylist()
    heard = []
    router = reader.model.get_submodule(layout.layers[1].experts)
    handle = router.register_forward_pre_hook(lambda module, args: heard.append(args[1]))
    reader.model(torch.tensor([rows()["tokens"][0].as_py()]))
    handle.remove()
    second = [row for row in first if row["layer"] == layout.layers[1].index]
    assert [row["place"] for row in second] == list(range(9))
    assert {row["prompt_id"] for row in first} == {"p0"}
    assert [row["experts"] for row in second] == heard[0].tolist()
    assert by_token.schema.field("experts").type == pa.list_(pa.int16())


class Small(RoutingReader):
    """Has memory for two rows."""

    def __call__(self, rows, notes):
        if len(rows) > 2:
            raise MemoryError
        return super().__call__(rows, notes)


@pytest.fixture
def kept(tmp_path):
    """One item, its reader, and where its part goes."""
    run = RunDir(str(tmp_path / "run"))
    plan = Plan(run, "plan.parquet")
    plan.write([rows()], PLAN_SCHEMA, "one")
    return Parts(run, "routing", plan, TOKENS), use_our_experts(build("olmoe"))


def test_both_tables_of_an_item_that_was_halved(kept):
    parts, model = kept
    notes = {}
    counts, by_token = Halving(parts, 0, Small(model, per_token=True), notes)(rows())
    assert notes == {"halved": 2}
    whole = RoutingReader(model, per_token=True)(rows(), {})
    assert by_token.equals(whole[1])
    assert counts.select(["prompt_id", "counts"]).equals(whole[0].select(["prompt_id", "counts"]))


def test_a_part_stands_only_with_both_of_its_tables(kept):
    parts, model = kept
    part = RoutingReader(model, per_token=True)(rows(), {})
    parts.commit(0, part, {})
    assert parts.unfinished() == []
    assert parts.names_in(TOKENS) == [f"{TOKENS}/part-000000.parquet"]
    parts.run.write_table(parts.table_name(0, TOKENS), part[1].slice(1))
    assert parts.unfinished() == [0]
    parts.commit(0, part, {})
    parts.run.delete(parts.table_name(0, TOKENS))
    assert parts.unfinished() == [0]
    with pytest.raises(ValueError, match="shorter"):
        parts.commit(0, part[0], {})
    parts.run.write_table(parts.table_name(7, TOKENS), part[1])
    parts.remove_strangers()
    assert not parts.run.exists(parts.table_name(7, TOKENS))
