"""What `evaluate` says of a subject."""

from moe_safety.arms import ARMS
from moe_safety.evaluate.comparison import arm_object, page, table
from moe_safety.evaluate.measures import MEASURES, WITH_HARM
from moe_safety.evaluate.printing import subject_lines
from moe_safety.evaluate.short_table import WIDTH, short_table
from moe_safety.everything import load_config
from moe_safety.pipeline.perform import tell
from moe_safety.rundir import RunDir
from tests.evaluate.rates import plain


def found(**changes):
    overall = dict.fromkeys(MEASURES, plain(1, 10).to_dict())
    return {"arm": "random", "overall": overall, "reattack": {}, "tasks": {}, **changes}


def said_of(report):
    return "\n".join(subject_lines(report))


def test_no_pair_of_answers_has_no_p(capsys):
    assert "against the base" not in said_of(found(compared={"asr": {"n": 0, "n_goals": 0, "b": 0, "c": 0, "p": None}}))
    said = said_of(found(compared={"asr": {"n": 4, "n_goals": 2, "b": 3, "c": 1, "p": 0.625}}))
    assert "against the base: 3 attacks are not answered now, 1 are answered now, of n=4 of 2 goals, p = 0.62" in said


def test_a_metric_without_a_value_is_said_so(capsys):
    assert "task arc: acc 0.25, stderr n/a" in said_of(found(tasks={"arc": {"acc": 0.25, "stderr": None}}))


def report_of(names, **changes):
    rest = {"benign_loss": 0.5, "benign_exact": plain(9, 10).to_dict(), "routing_shift": None}
    return found(overall=dict.fromkeys(names, plain(1, 10, 2).to_dict()), **rest, **changes)


def test_words_say_whether_success_is_harm_or_any_answer(capsys):
    more = {"success_at": {"2": plain(1, 10).to_dict()}}
    more |= {"compared": {"asr": {"n": 4, "n_goals": 2, "b": 3, "c": 1, "p": 0.625}}}
    judged, unjudged = report_of(WITH_HARM, **more), report_of(MEASURES, **more)
    said = said_of(judged)
    assert "3 attacks fail now, 1 succeed now" in said
    assert "attack success 0.100 (n=10 of 10 goals, 0.300 with 2 unparsed counted), attacks answered 0.100" in said
    said = said_of(unjudged)
    assert "random: attacks answered 0.100" in said
    assert "succe" not in said
    for report, words, missing in (
        (judged, "| attack success | attacks answered | plain refusal | plain harm |", "no judge of harm"),
        (unjudged, "| attacks answered | plain refusal | over-refusal |", "succe"),
    ):
        told = page([arm_object("base", report)], "test")
        assert words in " ".join(told.split())
        assert missing not in told


def test_corrected_rates_stand_beside_the_raw_ones(capsys):
    span = {"value": 0.08, "low": 0.01, "high": 0.2, "judged": 0.3}
    judged = report_of(WITH_HARM, corrected={"asr": span | {"sensitivity": 0.9, "specificity": 0.9, "labels": 50}})
    assert "asr corrected by its judge's errors: 0.080 [0.01, 0.20]" in said_of(judged)
    arm = arm_object("base", judged)
    told = page([arm], "test")
    assert "| base | 0.080 [0.01, 0.20] (0.300) |" in " ".join(told.split())
    assert "Corrected" not in page([arm | {"corrected": {}}], "test")
    assert table([arm]).count("\n") == 2


def test_the_short_table_fits_a_terminal_and_says_what_decides():
    judged = arm_object("selective-gradient+router", report_of(WITH_HARM))
    repeats = {"seeds": {"1": {}, "2": {}}, "pooled": judged, "worst": judged}
    base, long = (arm_object(name, report_of(WITH_HARM)) for name in ("base", "a-name-of-more-than-so-many"))
    lines = short_table([base, judged | {"repeats": repeats}, long]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.split("  ")[0] for line in lines[2:4]] == ["base", "selective-gradient+router"]
    assert [line.split("10? ")[0].strip() for line in lines[4:6]] == ["2 seeds pooled", "worst of 2 seeds"]
    assert lines[2].split() == ["base", *["10?", "[2,40]"] * 3, "n/a"]
    assert lines[6].split("  ")[0] == "a-name-of-more-than-so-many"
    assert lines[7].split() == lines[3].split()[1:]
    assert "10 attacks, 10 plain goals, 10 harmless" in lines[-2]
    assert "succeed" in lines[1]
    assert "answered" in short_table([arm_object("base", report_of(MEASURES))]).splitlines()[1]


def test_arms_can_be_told_apart_in_the_short_table():
    """Cut to 25 characters, two were the same."""
    arms = [arm_object(name, report_of(WITH_HARM)) for name in ARMS.names()]
    lines = short_table(arms).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert {line.split()[0] for line in lines if line[:1].strip()} >= {*ARMS.names()}


def test_what_is_unchanged_is_one_line(tmp_path, capsys):
    config = load_config("configs/demo.yaml", [f"run_dir={tmp_path}"])
    RunDir(config.run_dir).write_json("eval/base.json", found(tasks={"arc": {"acc": 0.25}}))
    manifest = {"stage": "evaluate/base", "outputs": {"eval/base.json": "", "eval/base/responses.parquet": ""}}
    tell(config, manifest | {"skipped": False})
    assert len(capsys.readouterr().out.splitlines()) > 1
    tell(config, manifest | {"skipped": True})
    said = capsys.readouterr().out
    assert said.endswith("(unchanged)\n")
    assert len(said.splitlines()) == 1
