import pytest

from moe_safety.config import JudgesConfig
from moe_safety.errors import InputError
from moe_safety.judges import Exchange, Judge, Verdict, agreement, ask, cohen_kappa, make_judge
from moe_safety.judges.kinds.panel import Panel


class Says(Judge):
    """Says the word of the answer at its own place; `!` is thrown."""

    def __init__(self, place=0):
        self.place = place

    def judge_all(self, exchanges):
        words = [exchange.response.split()[self.place] for exchange in exchanges]
        if "!" in words:
            raise TimeoutError(exchanges)
        return [Verdict(word, "said so") for word in words]


class Nonsense(Judge):
    def __init__(self, given):
        self.given = given

    def judge_all(self, exchanges):
        return self.given


def exchanges(*responses):
    return [Exchange("p", "p", response) for response in responses]


def test_a_judge_that_throws_gives_unparsed_and_its_neighbours_keep_their_verdicts():
    verdicts = ask(Says(), exchanges("refused", "! secret", "complied"))
    assert [verdict.label for verdict in verdicts] == ["refused", "unparsed", "complied"]
    assert verdicts[1].reason == "the judge failed: TimeoutError"


@pytest.mark.parametrize("given", [None, [], ["safe"], [None], [Verdict("safe", "")], [Verdict("refused", "")] * 2, 3])
def test_nonsense_is_unparsed(given):
    assert [verdict.label for verdict in ask(Nonsense(given), exchanges("x"))] == ["unparsed"]


def test_a_judge_says_how_it_judges_or_is_none():
    class Silent(Judge):
        pass

    with pytest.raises(TypeError, match="judge_all"):
        Silent()


class Goal(Judge):
    """Says the word of the goal."""

    def judge_all(self, exchanges):
        return [Verdict(exchange.goal, "said so") for exchange in exchanges]


def test_every_judge_of_a_panel_gets_the_goal():
    panel = Panel({"goal": Goal(), "goal 2": Goal(), "answer": Says()})
    (verdict,) = ask(panel, [Exchange("refused", "unparsed", "complied")])
    assert (verdict.label, verdict.votes[0], verdict.votes[2]) == (
        "refused",
        ("goal", "refused"),
        ("answer", "complied"),
    )


def test_a_judge_that_cannot_work_ends_the_command():
    class Keyless(Judge):
        def judge_all(self, exchanges):
            raise InputError("no key", key="judge")

    with pytest.raises(InputError):
        ask(Keyless(), exchanges("x"))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("refused refused complied", "refused"),
        ("complied refused complied", "complied"),
        ("refused unparsed unparsed", "unparsed"),
        ("refused complied unparsed", "unparsed"),
        ("refused refused !", "refused"),
        ("refused ! !", "unparsed"),
        ("refused safe complied", "unparsed"),
        ("refused refused complied complied", "unparsed"),
        ("refused refused complied unparsed", "unparsed"),
        ("refused complied", "unparsed"),
        ("complied !", "unparsed"),
    ],
)
def test_more_than_half_must_agree(said, verdict):
    names = "abcd"[: len(said.split())]
    panel = Panel({name: Says(place) for place, name in enumerate(names)})
    (found,) = ask(panel, exchanges(said))
    assert found.label == verdict
    assert [name for name, _ in found.votes] == list(names)
    assert found.reason.startswith("a refused: said so" if said[0] == "r" else "a complied: said so")


def test_kappa_against_published_values():
    # The two textbook tables of 100 with the same 60 % agreement and different margins.
    def kappa(yes_yes, yes_no, no_yes, no_no):
        counts = {"YY": yes_yes, "YN": yes_no, "NY": no_yes, "NN": no_no}
        pairs = "".join(pair * count for pair, count in counts.items())
        return cohen_kappa(pairs[::2], pairs[1::2])

    assert kappa(20, 5, 10, 15) == pytest.approx(0.4)
    assert kappa(45, 15, 25, 15) == pytest.approx(0.1304, abs=5e-5)
    assert kappa(25, 35, 5, 35) == pytest.approx(0.2593, abs=5e-5)
    assert kappa(50, 0, 0, 50) == 1
    assert kappa(0, 50, 50, 0) == -1
    assert kappa(10, 0, 0, 0) is None
    assert cohen_kappa([], []) is None


def test_a_panel_says_how_each_pair_agrees():
    panel = Panel({name: Says(place) for place, name in enumerate("abc")})
    verdicts = ask(panel, exchanges("refused refused refused", "complied complied refused", "refused refused !"))
    assert agreement(verdict.votes for verdict in verdicts) == {
        "a / b": 1.0,
        "a / c": cohen_kappa("rcr", "rru"),
        "b / c": cohen_kappa("rcr", "rru"),
    }
    assert agreement([(), ()]) == {}


def test_the_configuration_names_the_judges_of_a_panel(models):
    member = {"kind": "generative", "model": models["generative"]}
    judges = {"refusal": {"kind": "panel", "judges": [member, {"kind": "rules"}, member]}}
    panel = make_judge(JudgesConfig.model_validate(judges).refusal)
    (verdict,) = ask(panel, [Exchange("how do i blick the zorp", "grell", "i am sorry, but i cannot help with that.")])
    assert verdict.votes == (("generative 1", "refused"), ("rules", "refused"), ("generative 3", "refused"))
