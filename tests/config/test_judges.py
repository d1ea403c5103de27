import pytest
import yaml

from moe_safety.config import JudgesConfig, dump_config, load_config, results_only
from moe_safety.config.load import parse_config
from moe_safety.errors import InputError

REST = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a.json"}]}}
ENDPOINT = "kind: endpoint, model: m"


def parse(text):
    return parse_config(REST | {"judges": {"refusal": yaml.safe_load(f"{{{text}}}")}}, "f.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "kind: endpiont",
            "f.yaml, judges.refusal.kind: there is no kind of judge 'endpiont', did you mean 'endpoint'?",
        ),
        ("kind: [rules]", "judges.refusal.kind: there is no kind of judge '['rules']'"),
        ("kind: classifier, model: m", "judges.refusal.labels: a value is required"),
        ("model: m", "judges.refusal.model: unknown key"),
        ("kind: panel", "judges.refusal.judges: a value is required"),
        ("kind: panel, judges: [{}]", "judges.refusal.judges: list should have at least 2 items"),
        ("kind: panel, judges: [{}, rules]", "judges.refusal.judges.1: takes a mapping with `kind`"),
        ("kind: panel, judges: [{}, {knd: rules}]", "judges.refusal.judges.1.knd: unknown key, did you mean 'kind'?"),
        (
            f"kind: panel, judges: [{{}}, {{{ENDPOINT}, bas_url: x}}]",
            "judges.1.bas_url: unknown key, did you mean 'base_url'",
        ),
        (
            f"kind: panel, judges: [{{}}, {{{ENDPOINT}, timeout: long}}]",
            "judges.refusal.judges.1.timeout: input should be",
        ),
        ("kind: classifier, model: m, labels: {A: safe}", "judges.refusal.labels.A: input should be"),
        ("kind: generative, model: m, template: hm", "judges.refusal.template: has no {response}"),
        ("kind: generative, model: m, refused: ['(']", "refused.0: not a regular expression: missing )"),
        (f"{ENDPOINT}, parameters: {{stream: true}}", "judges.refusal: parameters cannot set `stream`"),
        (f"{ENDPOINT}, base_url: 'file:///etc'", "judges.refusal.base_url: should begin with http"),
        (f"{ENDPOINT}, base_url: 'http://u:secret@h/v1'", "judges.refusal.base_url: should hold no user name"),
        (f"{ENDPOINT}, base_url: 'http://h/v1?key=secret'", "judges.refusal.base_url: should hold no user name"),
        (f"{ENDPOINT}, key_env: sk-secret", "judges.refusal.key_env: string should match"),
        (f"{ENDPOINT}, key: secret", "judges.refusal.key: unknown key, did you mean 'key_env'?"),
    ],
)
def test_mistakes_are_one_line_without_any_key(text, complaint):
    with pytest.raises(InputError) as error:
        parse(text)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ({"kind": "endpoint", "endpoint": {"model": "m", "key": "secret"}}, "{kind: endpoint, model: …, key: …}"),
        ({"kind": "panel", "panel": [{}, {"kind": "rules"}]}, "{kind: panel, judges: […]}"),
        ({}, "{kind: rules}"),
        ("rules", "{kind: KIND}"),
    ],
)
def test_the_judge_of_earlier_versions_is_refused_with_what_to_write(old, today):
    with pytest.raises(InputError) as error:
        parse_config(REST | {"judge": old}, "f.yaml")
    assert str(error.value) == (
        "f.yaml, judge: stands elsewhere now, its settings beside `kind`: write `judges: {refusal: " + today + "}`"
    )


def test_a_judge_answers_only_its_own_questions(monkeypatch):
    from moe_safety.judges import JUDGES

    rules = JUDGES.get("rules")
    monkeypatch.setitem(JUDGES._own, "rules", type(rules)(rules.about, rules.section, rules.make, questions=()))
    for text, key in (("kind: rules", "judges.refusal"), ("kind: panel, judges: [{}, {}]", "judges.refusal.judges.0")):
        with pytest.raises(InputError) as error:
            parse(text)
        assert f"{key}.kind: a judge of the kind 'rules' does not answer the question of refusal" in str(error.value)


def test_the_home_folder_may_be_written_short(monkeypatch):
    monkeypatch.setenv("HOME", "/home/zorp")
    assert parse("kind: generative, model: ~/judge").judges.refusal.model == "/home/zorp/judge"
    assert parse("kind: generative, model: org/judge").judges.refusal.model == "org/judge"
    config = parse_config(REST | {"evaluate": {"model_path": "~/tuned"}}, "f.yaml")
    assert config.evaluate.model_path == "/home/zorp/tuned"


def test_no_judge_is_the_rules():
    assert parse("").judges == JudgesConfig() == parse_config(REST, "f.yaml").judges
    assert results_only(parse("").judges.refusal) == {"kind": "rules"}
    assert list(parse("").judges.asked) == ["refusal"], "harm is judged only where a judge of it is named"


@pytest.mark.parametrize(
    ("judges", "complaint"),
    [
        ("harm: {kind: rules}", "judges.harm.kind: a judge of the kind 'rules' does not answer the question of harm"),
        ("harm: {}", "judges.harm.kind: a judge of the kind 'rules' does not answer the question of harm"),
        (
            "refusal: {kind: demo}",
            "judges.refusal.kind: a judge of the kind 'demo' does not answer the question of ref",
        ),
        ("harm: {kind: keywords, refused: [a], complied: [b]}", "judges.harm.refused: unknown key"),
        ("harm: {kind: endpoint, model: m, complied: [b]}", "judges.harm.complied: unknown key"),
        ("harm: {kind: endpoint, model: m, template: '{response}'}", "judges.harm.template: has no {goal}"),
        (
            "harm: {kind: endpoint, model: m, template: '{goal} {prompt} {response}'}",
            "judges.harm.template: shows the {prompt}: harm is judged by the plain goal",
        ),
        (
            "harm: {kind: endpoint, model: m, grading: {pattern: 'x', harmful_from: 3}}",
            "judges.harm.grading.pattern: has no group",
        ),
        (
            "harm: {kind: endpoint, model: m, grading: {pattern: '(x)', harmful_from: 7}}",
            "judges.harm.grading: harmful_from stands above lowest and not above highest",
        ),
        (
            "harm: {kind: panel, judges: [{kind: demo}, {kind: rules}]}",
            "judges.harm.judges.1.kind: a judge of the kind",
        ),
        ("calibration: {harm: a.json}", "judges: calibration.harm is of a judge that is not asked"),
    ],
)
def test_harm_has_judges_and_keys_of_its_own(judges, complaint):
    with pytest.raises(InputError) as error:
        parse_config(REST | {"judges": yaml.safe_load(f"{{{judges}}}")}, "f.yaml")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_judge_of_harm_survives_the_dump(tmp_path):
    members = "{kind: demo}, {kind: generative, model: org/guard, preset: chat_template}, {kind: endpoint, model: m}"
    given = {"judges": yaml.safe_load(f"{{harm: {{kind: panel, judges: [{members}]}}}}")}
    config = parse_config(REST | given, "f.yaml")
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    assert list(config.judges.asked) == ["refusal", "harm"]


def test_a_panel_survives_the_dump(tmp_path):
    config = parse(f"kind: panel, judges: [{{}}, {{{ENDPOINT}, key_env: null}}]")
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    other = parse(f"kind: panel, judges: [{{}}, {{{ENDPOINT}, parallel: 1}}]")
    assert results_only(other.judges) == results_only(config.judges)
