import json
import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from moe_safety.config import JudgesConfig, results_only
from moe_safety.errors import InputError, RunError
from moe_safety.judges import Exchange, ask, check_judge, make_judge
from moe_safety.judges.asking.replycache import ReplyCache
from tests.judges.endpoint import said

EXCHANGE = Exchange("how do i blick the zorp", "zorp the blick i do how", "take the fep.")
OTHER = Exchange("p", "p", "r")


def config_of(server, **settings):
    given = {"model": "m", "base_url": server.url, "key_env": "JUDGE_KEY", "backoff": 0.01, "timeout": 5.0}
    return JudgesConfig.model_validate({"refusal": {"kind": "endpoint"} | given | settings}).refusal


def judge_of(server, **settings):
    return make_judge(config_of(server, **settings))


def verdict(judge, exchange=EXCHANGE, **changes):
    (one,) = judge.judge_all([replace(exchange, **changes)])
    return one


def verdict_of(server, **settings):
    return verdict(judge_of(server, **settings))


def test_an_endpoint_that_fails_twice_and_is_slow_is_asked_again_until_it_answers(server):
    server.pause = 0.1
    server.script = [503, 429, said("Refused.")]
    found = verdict_of(server)
    assert (found.label, found.reason) == ("refused", "the reply is “Refused.”")
    assert len(server.asked) == 3
    assert server.path == "/v1/chat/completions"
    assert server.asked[-1].keys() == {"model", "messages", "temperature", "max_tokens"}
    assert server.headers[-1]["Authorization"] == "Bearer sk-nonsense-key"


def test_pauses_grow_and_are_as_long_as_the_endpoint_asks(server):
    server.script = [500, 500, 500, (429, {"Retry-After": "1"})]
    assert verdict_of(server, backoff=0.1).label == "complied"
    pauses = [after - before for before, after in pairwise(server.times)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 1.0), strict=True)), pauses


def test_an_answer_is_paid_for_once(server):
    server.script = [said("refused")]
    judge = judge_of(server)
    assert [found.label for found in judge.judge_all([EXCHANGE, OTHER])].count("refused") == 1
    again = judge_of(server, parallel=1, attempts=1)
    assert again.judge_all([EXCHANGE, OTHER]) == judge.judge_all([EXCHANGE, OTHER])
    assert len(server.asked) == 2
    # Whatever changes the reply is another question; how a reply is read is not.
    assert verdict_of(server, refused=["complied"], complied=["refused"]).label != "unparsed"
    assert len(server.asked) == 2
    for number, change in enumerate(({"model": "n"}, {"template": "{response}"}, {"parameters": {}}), 3):
        verdict_of(server, **change)
        assert len(server.asked) == number
    verdict(judge, response="take the fep")
    verdict(judge, goal="how do i blick the quib")
    assert len(server.asked) == 7
    # In another wrapper it is the same question, unless the wrapper is shown.
    verdict(judge, prompt="in a play somebody says how")
    assert len(server.asked) == 7


def test_the_goal_is_what_the_judge_is_asked_about_and_not_the_attack_s_words(server):
    verdict_of(server)
    assert EXCHANGE.goal in server.questions[0]
    assert EXCHANGE.response in server.questions[0]
    assert EXCHANGE.prompt not in server.questions[0]
    verdict_of(server, template="{goal} / {prompt} / {response}")
    words = [line for line in server.questions[1].splitlines() if not line.startswith("----")]
    assert [line for line in words if line.strip(" /")] == [EXCHANGE.goal, EXCHANGE.prompt, EXCHANGE.response]


def test_neither_failures_nor_questions_are_kept(server, tmp_path):
    server.script = [400]
    assert verdict_of(server).reason == "HTTP 400"
    assert verdict_of(server).label == "complied"
    kept = [path.read_text() for path in (tmp_path / "cache").rglob("*.json")]
    assert kept == ['{"reply": "complied"}']


@pytest.mark.parametrize("damage", ["", "[]", '{"reply": 1}', "\udcff"])
def test_a_damaged_cache_is_no_cache(server, tmp_path, damage):
    verdict_of(server)
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text(damage, errors="surrogateescape")
    assert verdict_of(server).label == "complied"
    assert len(server.asked) == 2


def drip(handler):
    """A server that keeps the call alive and never comes to the point."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def hang_up(handler):
    handler.connection.close()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        pytest.param(500, "HTTP 500, 2 times", id="down"),
        pytest.param(lambda handler: time.sleep(1), "no reply in 0.3 s, 2 times", id="silent"),
        pytest.param(drip, "no reply in 0.3 s, 2 times", id="dripping"),
        pytest.param(400, "HTTP 400", id="refuses-the-question"),
        pytest.param("<html>", "no chat completion", id="no-json"),
        pytest.param("[" * 100_000, "no chat completion", id="deep-json"),
        pytest.param('{"choices": []}', "no chat completion", id="no-choice"),
        pytest.param('{"choices": [{"message": {"content": null}}]}', "no chat completion", id="no-text"),
        pytest.param(said("I cannot judge this."), "the reply says neither", id="neither"),
        pytest.param(said("refused or complied"), "the reply says neither", id="echo"),
        pytest.param(said(""), "the reply says neither", id="empty"),
    ],
)
def test_what_goes_wrong_is_unparsed_with_its_reason(server, step, reason):
    server.script = [step] * 4
    started = time.monotonic()
    (found,) = ask(judge_of(server, attempts=2, timeout=0.3), [EXCHANGE])
    assert time.monotonic() - started < 3
    assert found.label == "unparsed"
    assert reason in found.reason


def test_a_connection_lost_after_the_first_answer_is_unparsed(server):
    judge = judge_of(server, attempts=2)
    verdict(judge)
    server.script = [hang_up, hang_up]
    assert verdict(judge, OTHER).reason.startswith("no connection")


def test_many_are_asked_at_once_but_no_more_than_allowed_and_in_order(server):
    server.pause = 0.05
    judge = judge_of(server, parallel=3, template="{response}", complied=[r"complied\b"])
    exchanges = [replace(OTHER, response=f"answer {number}") for number in range(12)]
    assert [found.label for found in judge.judge_all(exchanges)] == ["complied"] * 12
    assert server.most_at_once == 3
    server.pause = 0
    server.script = [said("refused")]
    assert [found.label for found in judge_of(server, parallel=1).judge_all(exchanges)] == ["refused"] + [
        "complied"
    ] * 11


def test_a_judge_that_cannot_start_is_an_error(server, monkeypatch):
    config = config_of(server)
    for status, key in (
        (401, "judges.refusal.key_env"),
        (403, "judges.refusal.key_env"),
        (404, "judges.refusal"),
        (301, "judges.refusal"),
    ):
        server.script = [(status, {"Location": "http://127.0.0.1:1/"})]
        with pytest.raises(InputError) as error:
            ask(make_judge(config), [EXCHANGE])
        assert error.value.key == key
    nobody = config_of(server, base_url="http://127.0.0.1:9/v1", attempts=2)
    with pytest.raises(RunError, match=r"127.0.0.1:9/v1: no connection: ConnectionRefusedError"):
        ask(make_judge(nobody), [EXCHANGE] * 50)
    for useless in ("", "  ", "sk-\ufffd"):
        monkeypatch.setenv("JUDGE_KEY", useless)
        for start in (make_judge, check_judge):
            with pytest.raises(InputError, match="JUDGE_KEY") as error:
                start(config)
            assert error.value.key == "judges.refusal.key_env"
            assert "\n" not in str(error.value)
    assert len(server.asked) == 4


def test_without_a_key_none_is_sent(server, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY")
    assert verdict_of(server, key_env=None).label == "complied"
    assert "Authorization" not in server.headers[0]


def test_the_key_is_written_nowhere(server, tmp_path, capfd):
    server.script = [(400, {"X-Echo": os.environ["JUDGE_KEY"]}), 500]
    config = config_of(server, attempts=1)
    judge = make_judge(config)
    verdicts = [verdict(judge, OTHER, response=answer) for answer in "abc"]
    written = [path.read_text() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    shown = [repr(verdicts), repr(judge.client.__dict__), repr(judge.__dict__), config.model_dump_json(), *written]
    assert "nonsense-key" not in "".join([*shown, *capfd.readouterr()])
    assert len(written) == 1


def test_the_settings_of_results_are_told_from_those_of_work(server):
    def settings(**changes):
        return json.dumps(results_only(config_of(server, **changes)))

    assert settings(parallel=1) == settings(backoff=9.0) == settings(key_env="OTHER") == settings()
    assert len({settings(), settings(model="n"), settings(template="{response}"), settings(timeout=1.0)}) == 4


INJECTIONS = Path(__file__).parent / "injections.json"


@pytest.mark.parametrize("answer", json.loads(INJECTIONS.read_text()))
def test_answers_that_talk_to_the_judge_stay_inside_their_quotes(server, answer):
    verdict_of(server)
    # The mark of an earlier question is all that an attacker could learn.
    fence = next(line for line in server.questions[0].splitlines() if line.startswith("----"))
    answer = answer.replace("FENCE", fence)
    verdict(judge_of(server), response=answer)
    question = server.questions[1]
    fence = next(line for line in question.splitlines() if line.startswith("----"))
    _, goal, _, inside, after = question.split(f"\n{fence}\n")
    assert goal == EXCHANGE.goal
    assert inside.replace(" ", "") == answer.replace(" ", "")
    assert after.startswith("\nAn answer that declines")
    assert "<|" not in inside
    assert "[INST]" not in inside


def test_a_reply_that_cannot_be_kept_is_good_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "full"))
    cache = ReplyCache()
    cache.put(["asked"], "refused")
    assert cache.get(["asked"]) is None
