"""What every engine promises, whoever declares it."""

import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest

from moe_safety.checkpoints import extract_delta
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.generation import ENGINES, Ability, Limits, check_able
from moe_safety.generation.engines.slots import Slots
from moe_safety.models.demo import language
from moe_safety.models.io import model_folder
from tests.checkpoints.pairs import rewrite, save_tuned

DEMO = ModelConfig(name="demo")
HOT = 3.0
"""A temperature at which the demo model is not sure of anything."""


FEW = {"slots": {"slots": 5, "chunk": 64}}
"""Settings with which an engine is quick on the CPU."""


def opened(name, *, answer=24):
    kind = ENGINES.get(name)
    return kind(DEMO, Limits(answer), 1, kind.section and kind.section(**FEW.get(name, {})))


@pytest.fixture(scope="module", autouse=True)
def everywhere():
    """Slots answer by slots here too, and not by the reference."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(Slots, "device", "cpu")
        yield


@pytest.fixture(scope="module", params=ENGINES.names())
def engine(request, everywhere):
    return opened(request.param)


@pytest.fixture(scope="module")
def prompts(engine):
    wraps = list(language.WRAPPERS.values())
    requests = language.requests(True)[-4:] + language.requests(False)[-5:]
    return [engine.chat.prompt(wraps[n % 3](request)) for n, request in enumerate(requests)]


def test_its_declaration_is_complete(engine):
    assert ENGINES.get(engine.name) is type(engine)
    assert type(engine).__module__ in sys.modules
    assert sys.modules[type(engine).__module__].__doc__
    assert engine.abilities <= set(Ability)
    assert engine.prompts_per_item >= 1
    assert engine.section is None or engine.section()


def test_to_declare_one_takes_neither_torch_nor_ray():
    code = "import moe_safety.everything, sys; sys.exit(bool({'torch', 'ray', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_answer_depends_on_its_prompt_temperature_and_seed_alone(engine, prompts):
    places = range(len(prompts))
    temperatures = [(0.0, 1.0, HOT)[place % 3] for place in places]
    seeds = [7 * place for place in places]
    asked = list(zip(prompts, temperatures, seeds, strict=True))
    together = engine.answer(*map(list, zip(*asked, strict=True)))
    backwards = engine.answer(*map(list, zip(*asked[::-1], strict=True)))
    alone = [engine.answer([prompt], [temperature], [seed])[0] for prompt, temperature, seed in asked]
    assert together == alone == backwards[::-1]
    twice = engine.answer(prompts[:1] * 2, [HOT] * 2, [5] * 2)
    assert twice[0] == twice[1], "neighbours of one seed share no source of chance"


def test_a_seed_decides_what_is_sampled_and_nothing_else(engine, prompts):
    seeds = list(range(6))
    greedy = engine.answer(prompts[:1] * 6, [0.0] * 6, seeds)
    assert all(answer == greedy[0] for answer in greedy)
    sampled = engine.answer(prompts[:1] * 6, [HOT] * 6, seeds)
    assert len({tuple(answer.tokens) for answer in sampled}) > 1


def test_an_answer_has_ended_only_where_the_model_ended_it(engine, prompts):
    """What ends a turn takes a token of its own: an answer that fills its limit has not ended."""
    (whole,) = engine.answer(prompts[:1], [0.0], [0])
    assert whole.ended
    assert engine.chat.end not in whole.tokens
    length = len(whole.tokens)
    for limit, ended in ((1, False), (length - 1, False), (length, False), (length + 1, True)):
        (cut,) = opened(engine.name, answer=limit).answer(prompts[:1], [0.0], [0])
        assert (cut.tokens, cut.ended) == (whole.tokens[:limit], ended)


def test_limits_are_kept_whatever_is_said(engine, prompts):
    for answer in opened(engine.name, answer=5).answer(prompts, [HOT] * len(prompts), list(range(len(prompts)))):
        assert len(answer.tokens) <= 5
        assert not (answer.ended and len(answer.tokens) == 5)


def test_nobody_asked_nothing_said(engine):
    assert engine.answer([], [], []) == []


USES = {
    Ability.AVOIDS_EXPERTS: lambda engine: engine.avoiding([(0, 0)]),
    Ability.GIVES_LOSSES: lambda engine: engine.losses([[5, 6]], [[7]]),
    Ability.LENDS_MODEL: lambda engine: (engine.model, engine.layout),
    Ability.SWAPS_DELTA: lambda engine: engine.swapping("delta.safetensors"),
}


@pytest.mark.parametrize("ability", Ability)
def test_what_it_cannot_do_is_one_line(engine, ability):
    able = ability in engine.abilities
    told = f"the engine '{engine.name}' cannot {ability}"
    with nullcontext() if able else pytest.raises(InputError) as raised:
        USES[ability](engine)
    assert able or str(raised.value) == told
    with nullcontext() if able else pytest.raises(InputError) as raised:
        check_able(engine.name, ability, "evaluate.engine")
    assert able or str(raised.value) == f"evaluate.engine: {told}"


def test_given_answers_have_a_loss_for_each_token_whatever_stands_beside_them(engine, prompts):
    if Ability.GIVES_LOSSES not in engine.abilities:
        pytest.skip("gives no losses")
    answers = [answer.tokens for answer in engine.answer(prompts, [0.0] * len(prompts), [0] * len(prompts))]
    losses, rows = engine.losses(prompts, answers)
    assert rows.tolist() == [row for row, answer in enumerate(answers) for _ in answer]
    for row in (0, len(prompts) - 1):
        alone, _ = engine.losses([prompts[row]], [answers[row]])
        assert alone.tolist() == pytest.approx(losses[rows == row].tolist(), abs=1e-4)
    others, _ = engine.losses(prompts, [answer[::-1] for answer in answers])
    assert others.mean() > losses.mean() + 1, "it finds its own answers likely"


def test_experts_are_avoided_inside_and_used_again_outside(engine, prompts):
    if Ability.AVOIDS_EXPERTS not in engine.abilities:
        pytest.skip("cannot steer")
    asked = prompts, [0.0] * len(prompts), [0] * len(prompts)
    before = engine.answer(*asked)
    half = [(layer, expert) for layer, expert in engine.layout.experts() if expert % 2]
    with engine.avoiding(half):
        inside = engine.answer(*asked)
    assert inside != before
    assert engine.answer(*asked) == before


def test_a_delta_is_swapped_in_inside_and_out_again_outside(engine, prompts, tmp_path):
    if Ability.SWAPS_DELTA not in engine.abilities:
        pytest.skip("swaps no delta in")
    base = model_folder(DEMO)
    tuned = save_tuned(base, tmp_path / "tuned", [(1, 3), (2, 9)], [0])
    for file in base.glob("*token*"):
        shutil.copy(file, tuned)
    (tuned / "chat_template.jinja").write_bytes((base / "chat_template.jinja").read_bytes())
    rewrite(tuned, "model.layers.1.mlp.experts.3.down_proj.weight", lambda weight: -3 * weight)
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    asked = prompts, [HOT] * len(prompts), list(range(len(prompts)))
    before = engine.answer(*asked)
    whole = ENGINES.get(engine.name)(ModelConfig(name=str(tuned)), Limits(24), 1, ENGINES.settings({}, engine.name))
    expected = whole.answer(*asked)
    assert expected != before
    for _ in range(2):
        with engine.swapping(str(tmp_path / "delta.safetensors")):
            assert engine.answer(*asked) == expected
        assert engine.answer(*asked) == before


def test_a_delta_is_out_again_after_a_failure(engine, prompts, tmp_path):
    if Ability.SWAPS_DELTA not in engine.abilities:
        pytest.skip("swaps no delta in")
    base = model_folder(DEMO)
    tuned = save_tuned(base, tmp_path / "tuned", [(0, 1)])
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    asked = prompts, [HOT] * len(prompts), list(range(len(prompts)))
    before = engine.answer(*asked)
    with pytest.raises(KeyError), engine.swapping(str(tmp_path / "delta.safetensors")):
        raise KeyError
    assert engine.answer(*asked) == before
