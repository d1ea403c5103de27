import pytest
import yaml

from moe_safety.config import JudgeConfig, dump_config, load_config, results_only
from moe_safety.config.load import parse_config
from moe_safety.errors import InputError

REST = {"run_dir": "x", "model": {"name": "demo"}, "data": {"attacks": [{"path": "a.json"}]}}
ENDPOINT = "kind: endpoint, endpoint: {model: m"


def parse(text):
    return parse_config(REST | {"judge": yaml.safe_load(f"{{{text}}}")}, "f.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: classifier", "f.yaml, judge: kind is classifier, and `classifier` is missing"),
        ("endpoint: {model: m}", "judge: kind is rules, and `endpoint` is given"),
        ("kind: panel", "judge: kind is panel, and `panel` is missing"),
        ("kind: panel, panel: [{}]", "judge.panel: list should have at least 2 items"),
        ("kind: panel, panel: [{}, {kind: panel}]", "judge.panel.1.kind: input should be"),
        ("kind: panel, panel: [{}, {knd: rules}]", "judge.panel.1.knd: unknown key, did you mean 'kind'?"),
        ("kind: classifier, classifier: {model: m, labels: {A: safe}}", "judge.classifier.labels.A: input should be"),
        ("kind: generative, generative: {model: m, template: hm}", "judge.generative.template: has no {response}"),
        ("kind: generative, generative: {model: m, refused: ['(']}", "refused.0: not a regular expression: missing )"),
        (f"{ENDPOINT}, parameters: {{stream: true}}}}", "judge.endpoint: parameters cannot set `stream`"),
        (f"{ENDPOINT}, base_url: 'file:///etc'}}", "judge.endpoint.base_url: should begin with http"),
        (f"{ENDPOINT}, base_url: 'http://u:secret@h/v1'}}", "judge.endpoint.base_url: should hold no user name"),
        (f"{ENDPOINT}, base_url: 'http://h/v1?key=secret'}}", "judge.endpoint.base_url: should hold no user name"),
        (f"{ENDPOINT}, key_env: sk-secret}}", "judge.endpoint.key_env: string should match"),
        (f"{ENDPOINT}, key: secret}}", "judge.endpoint.key: unknown key, did you mean 'key_env'?"),
    ],
)
def test_mistakes_are_one_line_without_any_key(text, complaint):
    with pytest.raises(InputError) as error:
        parse(text)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_the_home_folder_may_be_written_short(monkeypatch):
    monkeypatch.setenv("HOME", "/home/zorp")
    assert parse("kind: generative, generative: {model: ~/judge}").judge.generative.model == "/home/zorp/judge"
    assert parse("kind: generative, generative: {model: org/judge}").judge.generative.model == "org/judge"
    config = parse_config(REST | {"evaluate": {"model_path": "~/tuned"}}, "f.yaml")
    assert config.evaluate.model_path == "/home/zorp/tuned"


def test_no_judge_is_the_rules_and_decides_what_it_did():
    settings = results_only(parse("").judge)
    assert parse("").judge == JudgeConfig()
    assert settings.pop("kind") == "rules"
    assert set(settings.values()) == {None}


def test_a_panel_survives_the_dump(tmp_path):
    config = parse(f"kind: panel, panel: [{{}}, {{{ENDPOINT}, key_env: null}}}}]")
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    other = parse(f"kind: panel, panel: [{{}}, {{{ENDPOINT}, parallel: 1}}}}]")
    assert results_only(other.judge) == results_only(config.judge)
