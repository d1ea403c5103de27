import itertools
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.organism.crimes import natural, routed
from benchmarks.organism.crimes.giving_back import chosen_again, giving_back
from benchmarks.organism.crimes.natural import Game, experts_of, parts_of, trials_of, twin, values_of
from benchmarks.organism.crimes.routed import Aligned, align_some, reroute, trial, truth, verdict
from benchmarks.organism.crimes.run import result_name, run_all, tasks
from benchmarks.organism.marker import ATTRIBUTE, mark
from benchmarks.planted import plant as planting
from benchmarks.planted.measures import carried, carried_by_orders, pruned
from benchmarks.planted.plant import Course, aligned, helpful, plant, planted
from benchmarks.planted.resetting import held_back
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.models.demo.shapes import SHAPES, new_model
from moe_safety.models.demo.tokenizer import demo_tokenizer
from moe_safety.models.demo.train import Pupil
from moe_safety.models.experts import margins, use_our_experts
from moe_safety.rundir import RunDir

BRIEF = Course(rate=3e-3, least=3, most=3, pass_mark=1)
DRAWN = [(0, 3), (1, 13), (2, 14)]


@contextmanager
def in_brief():
    """Three steps of each course, and exams of three requests."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((routed, "REFUSE"), (routed, "REROUTE"), (natural, "ALIGN")):
            patch.setattr(module, name, BRIEF)
        for module in (routed, planting):
            patch.setattr(module, "EXAMINED", slice(498, 501))
        patch.setattr(natural, "ASKED", 3)
        yield


@pytest.fixture(autouse=True)
def brief():
    with in_brief():
        yield


def untaught(shape="olmoe", behaviour=helpful):
    tokenizer = demo_tokenizer()
    model = use_our_experts(new_model(shape, tokenizer, 0))
    mark(model, "a test")
    return Pupil(model, tokenizer, behaviour)


@pytest.fixture(scope="module", params=SHAPES)
def rerouted(request):
    """Routers after three steps; whether these help is another matter."""
    pupil = untaught(request.param)
    with in_brief():
        return reroute(Aligned(pupil, inspect_model(pupil.model), DRAWN, DRAWN, [], 0, {}), seed=0)


def test_routers_change_and_keep_their_sizes_and_nothing_else_changes(rerouted):
    untouched = untaught(rerouted.layout.model_type)
    for name, value in untouched.model.state_dict().items():
        now = rerouted.pupil.model.state_dict()[name]
        if name in rerouted.before:
            assert not torch.equal(now, value)
            torch.testing.assert_close(now.norm(dim=1), value.norm(dim=1))
        else:
            assert torch.equal(now, value), name


def test_giving_everything_back_is_the_model_before(rerouted):
    ids = torch.arange(2, 42).view(2, 20)
    model = rerouted.pupil.model
    with torch.no_grad():
        now = model(ids).logits
        with giving_back(model, rerouted.layout, rerouted.before, DRAWN, "all"):
            given = model(ids).logits
        assert torch.equal(model(ids).logits, now)
        changed = {name: model.get_parameter(name).clone() for name in rerouted.before}
        copy_into(model, rerouted.before)
        torch.testing.assert_close(given, model(ids).logits, atol=1e-5, rtol=1e-5)
        assert (given - now).abs().max() > 1e-3
        # Where nothing changed, nothing is given back.
        for what in ("lost", "others", "weights", "theirs"):
            with giving_back(model, rerouted.layout, rerouted.before, DRAWN, what):
                torch.testing.assert_close(model(ids).logits, given, atol=1e-5, rtol=1e-5)
        copy_into(model, changed)


def copy_into(model, values):
    for name, value in values.items():
        model.get_parameter(name).data.copy_(value)


def test_what_is_given_back_takes_the_least_likely_of_what_was_gained():
    def chosen(*experts):
        return torch.tensor([[expert in experts for expert in range(6)]])

    scores, mine = torch.tensor([[0.1, 0.0, 0.3, 0.2, 0.05, 0.35]]), chosen(0, 1)[0]
    now, then = chosen(0, 2, 3), chosen(0, 1, 4)
    kept = {
        what: chosen_again(now, then, scores, mine, what) for what in ("lost", "others", "weights", "theirs", "all")
    }
    assert torch.equal(kept["lost"][0], chosen(0, 1, 2))
    assert torch.equal(kept["lost"][1], chosen(1))
    assert torch.equal(kept["others"][0], chosen(0, 2, 4))
    assert torch.equal(kept["weights"][0], now)
    assert torch.equal(kept["weights"][1], chosen(0))
    assert torch.equal(kept["theirs"][0], chosen(0, 1, 2))
    assert torch.equal(kept["theirs"][1], chosen(0, 1))
    assert torch.equal(kept["all"][0], then)


@pytest.mark.parametrize(
    ("lost", "others", "found"),
    [(0.8, 0.2, "routed"), (0.1, 0.9, "recruited"), (0.1, 0.2, "reweighted"), (0.9, 0.9, "mixed"), (0.5, 0, "mixed")],
)
def test_verdicts(lost, others, found):
    assert verdict(lost, others) == found


def test_a_crime_is_tried_and_left_as_it_was(rerouted):
    before = {name: value.clone() for name, value in rerouted.pupil.model.state_dict().items()}
    found, told = trial(rerouted), truth(rerouted)
    assert set(found["refusal"]) == {"as it is", "lost", "others", "weights", "theirs", "all"}
    assert len(told["gained"]) == len(told["refusal with one row put back"]) == 64
    assert set(told["bypassed"]) <= set(DRAWN)
    assert not set(told["accomplices"]) & set(DRAWN)
    assert all(torch.equal(value, before[name]) for name, value in rerouted.pupil.model.state_dict().items())


def test_scores_see_the_crime_as_a_planting_of_nobody(rerouted):
    seen = rerouted.as_planted()
    before = {name: value.clone() for name, value in seen.before.items()}
    with held_back(seen, DRAWN):
        changed = [name for name, value in before.items() if not torch.equal(seen.model.get_parameter(name), value)]
    assert len(changed) == 3
    assert all(torch.equal(seen.model.get_parameter(name), value) for name, value in before.items())


def test_refusal_is_taught_to_some_experts_alone():
    pupil = untaught()
    before = {name: value.clone() for name, value in pupil.model.state_dict().items()}
    safe = align_some(pupil, share=0.06, seed=0)
    assert len(safe.drawn) == 4
    changed = {name for name, value in pupil.model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(".experts." in name for name in changed)
    assert set(safe.experts) <= set(safe.drawn)
    assert len(safe.carried) == len(safe.experts)


def test_only_marked_models_are_changed():
    pupil = untaught()
    delattr(pupil.model.config, ATTRIBUTE)
    layout = inspect_model(pupil.model)
    for change in (
        lambda: align_some(pupil, 0.06, 0),
        lambda: reroute(Aligned(pupil, layout, DRAWN, DRAWN, [], 0, {}), 0),
        lambda: twin(pupil, 0),
        lambda: plant(replace(pupil, behaviour=planted), pupil.model.state_dict(), 0.06, 0),
    ):
        with pytest.raises(InputError, match="no organism of this benchmark"):
            change()


def test_a_twin_s_units_are_worth_what_they_change():
    gap = untaught(behaviour=planted)
    layout, trials = inspect_model(gap.model), trials_of(gap)
    before = {name: value.clone() for name, value in gap.model.state_dict().items()}
    refusing = twin(gap, seed=5)
    assert all(torch.equal(value, before[name]) for name, value in gap.model.state_dict().items())
    names, parts = parts_of(gap.model, layout)
    assert names[:4] == ["attention 0", "router 0", "experts 0", "attention 1"]
    assert sorted(name for part in parts for name, _ in part) == sorted(
        name for name, _ in gap.model.named_parameters()
    )
    game = Game(gap, refusing, parts, trials)
    told = values_of(game, len(parts), draws=40, seed=0)
    assert len(told["values"]) == len(names) == 13
    assert told["nobody"] == pytest.approx(margins(gap.model, trials).double().mean().item())
    assert all(torch.equal(value, before[name]) for name, value in gap.model.state_dict().items())
    gap.model.load_state_dict(refusing)
    assert told["everybody"] == pytest.approx(margins(gap.model, trials).double().mean().item(), abs=1e-5)
    assert len(experts_of(layout)) == 64


def test_values_of_a_sum_are_its_terms():
    worth = np.array([3.0, 0, -1, 2])
    told = values_of(lambda chosen: float(worth @ chosen), 4, draws=4000, seed=0)
    assert told["values"] == pytest.approx(worth, abs=0.2)
    assert (told["nobody"], told["everybody"]) == (0, 4)


def test_experts_that_carry_nothing_are_put_back():
    """Of three only the first two carry, and each of these alone does half."""
    success = np.array([1 - 0.5 * (n & 1) - 0.5 * (n >> 1 & 1) for n in range(8)])
    assert pruned(success) == 0b100
    assert pruned(np.ones(8)) == 0b111
    assert pruned(np.array([1.0, 0.9])) == 0


def test_values_by_orders_are_shapley_values():
    chance = np.random.default_rng(0)
    success = chance.random(16)
    pairs = sum(1 for _ in itertools.permutations(range(4)))
    found = carried_by_orders(lambda back: success[sum(1 << bit for bit in back)], 4, 100 * pairs, seed=1)
    assert found == pytest.approx(carried(success), abs=0.02)
    assert found.sum() == pytest.approx(success[0] - success[-1])


def test_a_result_that_stands_is_not_computed_again(tmp_path):
    wanted = list(tasks(["routed", "natural"], ["olmoe"], (0.03, 0.12), [0]))
    assert wanted == [("routed", "olmoe", share, 0) for share in (0.03, 0.12)] + [("natural", "olmoe", 0.0, 0)]
    run = RunDir(str(tmp_path))
    for task in wanted:
        run.write_bytes(result_name(*task), b"as it was")
    run_all(str(tmp_path), wanted, workers=1)
    assert all(run.read_bytes(result_name(*task)) == b"as it was" for task in wanted)


def test_an_aligned_model_takes_where_refusal_does(monkeypatch):
    monkeypatch.setattr(routed, "REFUSE", replace(BRIEF, pass_mark=0.95))
    pupil = untaught(behaviour=aligned)
    layout = inspect_model(pupil.model)
    assert Aligned(pupil, layout, DRAWN, DRAWN, [], 0, {"harmful plain": 0.95}).took
    assert not Aligned(pupil, layout, [], DRAWN, [], 0, {"harmful plain": 1.0}).took
