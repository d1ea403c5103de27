import csv
import json

import pytest
import yaml

from moe_safety.cli import main
from moe_safety.errors import InputError
from moe_safety.judges import Judge, Verdict
from moe_safety.judges.calibration.calibrate import Labelled, calibrate, calibrate_file
from moe_safety.judges.calibration.scores import Share
from moe_safety.judges.rules.judge import RulesJudge
from tests.judges import handmade
from tests.judges.endpoint import said

HELP = "Turn the zorp twice to the left."
NO = "I can't help with that."


class ByWord(Judge):
    """Says what the answer says."""

    def judge_all(self, exchanges):
        return [Verdict(exchange.response, "said so") for exchange in exchanges]


class ByGoal(Judge):
    """Says what the goal says."""

    def judge_all(self, exchanges):
        return [Verdict(exchange.goal, exchange.prompt) for exchange in exchanges]


def answers(*pairs):
    return [Labelled(f"row {n}", "p", verdict, label) for n, (label, verdict) in enumerate(pairs, 1)]


def test_no_judge_is_given_what_a_model_thought():
    said = [
        "<think>I cannot help with that.</think>complied",
        "hm</think>\n\ncomplied",
        "<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>refused",
        "refused",
        "<think>I will nev",
    ]
    seen = []

    class Listens(ByWord):
        def judge_all(self, exchanges):
            seen.extend(exchange.response.strip() for exchange in exchanges)
            return super().judge_all(exchanges)

    calibrate(answers(*(("complied", one) for one in said)), Listens())
    assert seen[:5] == ["complied", "complied", "refused", "refused", ""]


def write(path, *rows, columns=("prompt", "response", "label")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(path)


def test_the_scores_by_hand():
    score = calibrate(
        answers(
            ("refused", "refused"),
            ("refused", "refused"),
            ("refused", "complied"),
            ("refused", "unparsed"),
            ("complied", "refused"),
            ("complied", "complied"),
        ),
        ByWord(),
    )
    assert score.scores.n == 6
    assert score.scores.precision == Share(2, 3)
    assert score.scores.recall == Share(2, 4), "an unparsed answer that a human calls refused is a missed refusal"
    assert score.scores.unparsed == 1
    assert score.scores.confusion == {
        "refused": {"refused": 2, "complied": 1, "unparsed": 1},
        "complied": {"refused": 1, "complied": 1, "unparsed": 0},
    }
    assert [(miss.id, miss.label, miss.verdict) for miss in score.misses] == [
        ("row 3", "refused", "complied"),
        ("row 5", "complied", "refused"),
        ("row 4", "refused", "unparsed"),
    ]


def test_a_share_of_nothing_is_null():
    score = calibrate(answers(("complied", "complied")), ByWord())
    assert score.scores.precision.value is None
    told = json.loads(score.to_json())
    assert (told["precision"], told["precision_interval"], told["recall"]) == (None, None, None)
    assert score.to_text().count("n/a") == 2


def test_intervals_are_wilsons():
    # Worked by hand from Wilson (1927) with z = 1.959964: 45 of 50, and none of 10.
    assert Share(45, 50).interval == pytest.approx((0.78640, 0.95652), abs=1e-5)
    assert Share(0, 10).interval == pytest.approx((0, 0.27753), abs=1e-5)
    score = calibrate(answers(*[("refused", "refused")] * 45, *[("refused", "complied")] * 5), ByWord())
    assert json.loads(score.to_json())["recall_interval"] == pytest.approx([0.78640, 0.95652], abs=1e-5)
    assert "recall      90.0% (78.6% to 95.7%) of `refused`" in score.to_text()


def test_a_table_by_type_and_partial_refusals_apart(tmp_path, capsys):
    path = write(
        tmp_path / "a.csv",
        ("p", NO, "refused", "discrimination"),
        ("p", HELP, "refused", "discrimination"),
        ("p", f"{NO} {HELP}", "partial", "discrimination"),
        ("p", HELP, "complied", "homonyms"),
        ("p", NO, "complied", ""),
        columns=("prompt", "response", "label", "type"),
    )
    assert main(["calibrate-judge", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["precision"], told["recall"]) == (4, 0.5, 0.5)
    assert told["confusion"]["partial"] == {"refused": 1, "complied": 0, "unparsed": 0}
    assert [miss["id"] for miss in told["misses"]] == ["row 2", "row 5"]
    assert list(told["by_type"]) == ["discrimination", "homonyms"]
    kind = told["by_type"]["discrimination"]
    assert (kind["n"], kind["precision"], kind["recall"]) == (2, 1.0, 0.5)
    assert kind["recall_interval"] == pytest.approx([0.09453, 0.90547], abs=1e-5)
    assert told["by_type"]["homonyms"]["recall"] is None
    assert main(["calibrate-judge", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("discrimination "))
    assert " ".join(line.split()) == "discrimination 2 1 0 100.0% (20.7% to 100.0%) 50.0% (9.5% to 90.5%)"


def test_without_types_there_is_no_table(tmp_path):
    score = calibrate_file(write(tmp_path / "a.csv", ("p", NO, "refused")), RulesJudge())
    assert score.by_type == {}
    assert "type" not in score.to_text()


def test_text_and_json_show_at_most_ten_misses_and_no_answer():
    secret = "xylophonic zorp"
    rows = [Labelled(f"k{n}", "p", f"Turn the {secret}.", "refused") for n in range(25)]
    score = calibrate(rows, RulesJudge())
    assert len(json.loads(score.to_json())["misses"]) == 25
    assert "misses (10 of 25)" in score.to_text()
    assert "k9:" in score.to_text()
    assert "k10:" not in score.to_text()
    assert secret not in score.to_text() + score.to_json()


def test_a_file_is_scored_by_id_or_row_and_labels_may_be_untidy(tmp_path):
    path = write(tmp_path / "a.csv", ("p", NO, " Refused "), ("p", HELP, "COMPLIED"), ("p", HELP, "refused"))
    score = calibrate_file(path, RulesJudge())
    assert (score.scores.n, score.scores.precision.value, score.scores.recall.value) == (3, 1.0, 0.5)
    assert [miss.id for miss in score.misses] == ["row 3"]
    path = write(tmp_path / "b.csv", ("p", NO, "complied", "q7"), columns=("prompt", "response", "label", "id"))
    assert [miss.id for miss in calibrate_file(path, RulesJudge()).misses] == ["q7"]


def test_the_goal_is_the_prompt_unless_the_file_says_it(tmp_path):
    columns = ("goal", "prompt", "response", "label")
    rows = (("refused", "complied", HELP, "complied"), ("", "complied", HELP, "complied"))
    score = calibrate_file(write(tmp_path / "a.csv", *rows, columns=columns), ByGoal())
    assert [(miss.id, miss.verdict, miss.reason) for miss in score.misses] == [("row 1", "refused", "complied")]


def test_very_long_answers_are_read_and_the_limit_is_put_back(tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path / "a.csv", ("p", HELP * 20_000, "complied"))
    assert calibrate_file(path, RulesJudge()).scores.n == 1
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "a.csv: the file is empty"),
        (b"prompt,response,label\n", "a.csv: has no rows"),
        (b"prompt,response\np,r\n", "a.csv: has no column 'label'"),
        (b"prompt,response,label\np,r,refused\np,r,maybe\n", "a.csv, row 2: `label` is neither"),
        (b"prompt,response,label\np,r,\n", "a.csv, row 1: `label` is neither"),
        (b"prompt,response,label\np,\xff,refused\n", "UTF-8"),
    ],
)
def test_bad_files_are_named_with_their_row(tmp_path, content, complaint):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        calibrate_file(str(tmp_path / "a.csv"), RulesJudge())
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        calibrate_file(str(tmp_path / "none.csv"), RulesJudge())


def test_every_kind_of_judge_is_scored_by_the_command(tmp_path, models, server, capsys):
    path = write(
        tmp_path / "a.csv", ("p", "i am sorry, but i cannot help with that.", "refused"), ("p", HELP, "complied")
    )
    sections = {
        "generative": {"model": models["generative"]},
        "classifier": {"model": models["classifier"], "labels": handmade.MEANING},
        "endpoint": {"model": "m", "base_url": server.url, "key_env": "JUDGE_KEY", "parallel": 1},
    }
    server.script = [said("refused"), said("complied")]
    members = [{"kind": kind, **section} for kind, section in sections.items()]
    for judge in ({}, *members, {"kind": "panel", "judges": [{}, *members]}):
        config = tmp_path / "config.yaml"
        plain = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a"}]}}
        config.write_text(yaml.safe_dump(plain | {"judges": {"refusal": judge}}))
        assert main(["calibrate-judge", path, "--config", str(config), "--json"]) == 0
        score = json.loads(capsys.readouterr().out)
        assert (score["n"], score["precision"], score["recall"]) == (2, 1.0, 1.0), judge
    assert score["agreement"]["rules / endpoint"] == 1.0
    assert len(score["agreement"]) == 6
    assert main(["calibrate-judge", path, "--config", str(config)]) == 0
    assert "generative / classifier: 1.00" in capsys.readouterr().out
    assert main(["calibrate-judge", path, "--set", "judges.refusal.kind=rules"]) == 2
    assert "--config" in capsys.readouterr().err
