import pytest

from moe_safety.batches import foreign_answers, nothing_harmless
from moe_safety.batches.warnings import refusals_of_attacks


@pytest.mark.parametrize(
    ("recorded", "own", "told"), [(1.2, 0.8, False), (1.4, 0.8, True), (0.1, 3.0, False), (2.0, None, False)]
)
def test_answers_that_are_hardly_the_model_s_own_are_told(recorded, own, told):
    found = foreign_answers({"recorded_nats": recorded, "own_nats": own})
    assert (found is not None) == told
    assert not told or "1.40 nats per token, the model's own 0.80" in found
    assert foreign_answers({}) is None


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ({"complied": 4}, None),
        ({"complied": 4, "refused": 2}, "2 answers to attacks are refusals, kept since respond.filter is false"),
        ({"none": 6}, "nobody judged 6 recorded answers to attacks, so some may be refusals (`respond` drops these)"),
    ],
)
def test_refusals_that_are_counted_as_unsafe_answers_are_told(verdicts, told):
    found = refusals_of_attacks(verdicts)
    assert found == (told and f"{told}; they are counted as unsafe answers")


@pytest.mark.parametrize(
    ("labels", "learned", "keys"),
    [
        ({"unsafe": 8, "benign": 4, "control": 4}, None, None),
        ({"unsafe": 8, "benign": 4, "control": 4}, frozenset({"unsafe", "benign", "control"}), None),
        ({"unsafe": 8}, None, "batches.benign_per_batch, batches.control_per_batch"),
        ({"unsafe": 8, "benign": 4}, None, "batches.control_per_batch"),
        ({"unsafe": 8, "benign": 4, "control": 4}, frozenset({"unsafe"}), "train.labels"),
    ],
)
def test_batches_that_teach_refusals_alone_are_told_with_their_keys(labels, learned, keys):
    found = nothing_harmless(labels, learned)
    assert found is None if keys is None else found.endswith(f"refuses harmless requests; see {keys}")
