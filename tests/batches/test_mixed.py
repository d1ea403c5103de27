import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_safety.batches.encoded import ENCODED
from moe_safety.batches.mixed import BATCHES_SCHEMA, fill, helpful, make_pairs
from moe_safety.batches.targets import REFUSALS
from moe_safety.config import BatchesConfig
from moe_safety.errors import InputError


def row(label, goal, number=0, category=None, answer="said", target=None, verdict=None):
    return {
        "prompt_id": f"{label}-{goal}-{number}",
        "goal_id": goal,
        "label": label,
        "category": category,
        "messages": [{"role": "user", "content": f"{label} {goal}"}],
        "answer": answer,
        "answer_ended": answer is not None,
        "answer_said": None,
        "target": target,
        "target_ended": True,
        "verdict": verdict,
        **{field.name: [1] for field in ENCODED},
    }


def prompts(goals, categories=1):
    rows = []
    for goal in range(goals):
        category = f"c{goal % categories}"
        rows += [
            row("safe", f"g{goal}", category=category, verdict="refused"),
            row("unsafe", f"g{goal}", category=category),
        ]
    return rows


def harmless(label, count):
    return [row(label, f"h{number}", target="help") for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    goals=st.integers(2, 80),
    batch_size=st.integers(2, 12),
    ratio=st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75]),
    group=st.sampled_from([None, "category"]),
    categories=st.integers(1, 3),
    benign=st.integers(0, 3),
    partial=st.sampled_from(["keep", "drop"]),
)
def test_batches_are_what_the_contract_says(goals, batch_size, ratio, group, categories, benign, partial):
    if round(batch_size * ratio) >= batch_size:
        return
    given = {"batch_size": batch_size, "safe_ratio": ratio, "group_by": group, "partial": partial}
    config = BatchesConfig(**given, benign_per_batch=benign)
    pairs = make_pairs(prompts(goals, categories), seed=1)
    try:
        composed = fill(pairs, harmless("benign", 5), [], config)
    except InputError:
        window = max(config.safe_per_batch, config.unsafe_per_batch)
        sizes = [sum(p.group("category") == f"c{c}" for p in pairs) for c in range(categories)] if group else [goals]
        assert partial == "drop"
        assert max(sizes) < window
        return
    unsafe = [row["prompt_id"] for batch in composed.batches for row in batch if row["label"] == "unsafe"]
    assert len(unsafe) == len(set(unsafe)), "an unsafe prompt stands in at most one batch"
    whole = [batch for batch in composed.batches if len(batch) == batch_size + benign]
    assert len(composed.batches) - len(whole) == composed.partial
    if partial == "keep":
        assert len(unsafe) == goals if config.unsafe_per_batch >= config.safe_per_batch else unsafe
        assert composed.leftover["pairs"] == 0
    else:
        assert composed.partial == 0
    for batch in whole:
        labels = [row["label"] for row in batch]
        safe, rest = config.safe_per_batch, config.unsafe_per_batch
        assert labels == ["safe"] * safe + ["unsafe"] * rest + ["benign"] * benign
        both = min(safe, rest)
        assert [r["goal_id"] for r in batch[:both]] == [r["goal_id"] for r in batch[safe : safe + both]]
        if group:
            assert len({row["category"] for row in batch[: safe + rest]}) == 1
    if group is None:
        order = [row["goal_id"] for batch in composed.batches for row in batch if row["label"] == "unsafe"]
        assert order == sorted(order, key=lambda goal: int(goal[1:])), "file order"
        window = max(config.safe_per_batch, config.unsafe_per_batch)
        assert len(whole) == goals // window
        assert len(composed.batches) == (-(-goals // window) if partial == "keep" else goals // window)
        assert composed.leftover["pairs"] == (0 if partial == "keep" else goals % window)


def test_at_half_every_unsafe_prompt_has_its_plain_form_in_its_batch():
    composed = fill(make_pairs(prompts(20), seed=1), [], [], BatchesConfig(batch_size=8))
    for batch in composed.batches:
        assert [r["goal_id"] for r in batch[:4]] == [r["goal_id"] for r in batch[4:]]
    assert len(composed.batches) == 5


def test_pairs_that_fill_no_batch_make_a_smaller_one_of_the_same_ratio():
    """The seven pairs of a category, and the seven that fifteen leave."""
    rows = [*prompts(7, 1), *({**one, "category": "other", "goal_id": f"o{one['goal_id']}"} for one in prompts(15, 1))]
    composed = fill(make_pairs(rows, seed=1), [], [], BatchesConfig(group_by="category"))
    assert [len(batch) for batch in composed.batches] == [14, 16, 14]
    assert composed.partial == 2
    quarter = fill(make_pairs(prompts(4), seed=1), [], [], BatchesConfig(batch_size=16, safe_ratio=0.25))
    assert [row["label"] for row in quarter.batches[0]] == ["safe"] + ["unsafe"] * 4


def test_one_goal_with_several_attacks_makes_several_pairs():
    rows = [*prompts(1), row("unsafe", "g0", 1), row("unsafe", "g9")]
    pairs = make_pairs(rows, seed=1)
    assert [pair.unsafe["prompt_id"] for pair in pairs] == ["unsafe-g0-0", "unsafe-g0-1"]
    assert {pair.safe["prompt_id"] for pair in pairs} == {"safe-g0-0"}


def test_targets():
    rows = [
        row("safe", "own", answer="I will not.", verdict="refused"),
        row("unsafe", "own"),
        row("safe", "none", answer="Sure!", verdict="complied"),
        row("unsafe", "none"),
    ]
    own, template = make_pairs(rows, seed=1)
    assert own.safe["target"] == own.unsafe["target"] == "I will not."
    assert template.safe["target"] == template.unsafe["target"]
    assert template.safe["target"] in REFUSALS
    assert template.unsafe["answer"] == "said", "the answer stays what the model said"
    drawn = {make_pairs(rows, seed=seed)[1].safe["target"] for seed in range(40)}
    assert len(drawn) > 4

    benign = [row("benign", "a", target="file"), row("benign", "b"), row("benign", "c", answer=None)]
    assert [r["target"] for r in helpful(benign, "benign")] == ["file", "said"]


def test_a_target_has_ended_where_the_answer_that_it_is_had():
    """What ran into a limit teaches no model to stop there."""
    said = {"prefix": [7], "tokens": [5, 6]}
    cut = {"answer_ended": False, "answer_said": said}
    rows = [{**row("safe", "own", answer="I will not", verdict="refused"), **cut}, row("unsafe", "own")]
    (pair,) = make_pairs(rows, seed=1)
    assert (pair.unsafe["target_ended"], pair.unsafe["target_said"]) == (False, said)
    assert pair.unsafe["answer_ended"], "of its own answer nothing is changed"
    (template,) = make_pairs([{**rows[0], "verdict": "complied"}, rows[1]], seed=1)
    assert (template.unsafe["target_ended"], template.unsafe["target_said"]) == (True, None)
    file, own = helpful([{**row("benign", n, target=t), **cut} for n, t in (("a", "file"), ("b", None))], "benign")
    assert (file["target_ended"], file["target_said"]) == (True, None)
    (short,) = helpful([{**row("benign", "a", target="file"), "target_ended": False}], "benign")
    assert (short["target_ended"], short["target_said"]) == (False, None), (
        "the answer that it got ended, and is another"
    )
    assert (own["target_ended"], own["target_said"]) == (False, said)


def test_too_few_harmless_rows_are_dealt_again_and_counted():
    config = BatchesConfig(batch_size=4, benign_per_batch=2, control_per_batch=1)
    composed = fill(make_pairs(prompts(6), seed=1), harmless("benign", 5), harmless("control", 9), config)
    dealt = [r["goal_id"] for batch in composed.batches for r in batch if r["label"] == "benign"]
    assert dealt == ["h0", "h1", "h2", "h3", "h4", "h0"]
    assert composed.reused == {"benign": 1, "control": 0}
    assert composed.leftover == {"pairs": 0, "benign": 0, "control": 6}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"batch_size": 64, "partial": "drop"}, "batches.batch_size: 20 pairs do not fill one batch, which takes 32"),
        ({"batch_size": 8, "num_batches": 6}, "batches.num_batches: 6 batches are asked for, and 20 pairs fill 5"),
        ({"benign_per_batch": 3}, "batches.benign_per_batch: 2 benign prompts do not fill one batch"),
    ],
)
def test_what_cannot_be_filled_is_said(options, complaint):
    with pytest.raises(InputError, match=complaint):
        fill(make_pairs(prompts(20), seed=1), harmless("benign", 2), [], BatchesConfig(**options))


def test_the_table_is_the_contract_s():
    table = fill(make_pairs(prompts(8), seed=1), [], [], BatchesConfig(batch_size=4)).table()
    assert table.schema.equals(BATCHES_SCHEMA)
    assert table["batch_idx"].to_pylist() == [n // 4 for n in range(16)]
    assert table["in_batch_idx"].to_pylist() == [n % 4 for n in range(16)]
