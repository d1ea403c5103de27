"""The kind `judgezoo` against the package itself, where that is installed: its own template and arithmetic, on the
demo model in place of the one that it fetches."""

from types import SimpleNamespace

import pytest

from moe_safety.config import ModelConfig
from moe_safety.judges import TOO_LONG, Exchange
from moe_safety.judges.kinds.judgezoo import JudgezooJudge, JudgezooSettings
from moe_safety.models.io import kept_model, load_chat

pytest.importorskip("judgezoo", reason="not installed: pip install --no-deps judgezoo openai anthropic, in a venv")


def test_the_package_grades_and_what_it_would_cut_is_not_judged(monkeypatch):
    from judgezoo import strong_reject

    demo = ModelConfig(name="demo")
    tokenizer = load_chat(demo).tokenizer
    for name, found in {"AutoModelForCausalLM": kept_model(demo, 1), "AutoTokenizer": tokenizer}.items():
        monkeypatch.setattr(strong_reject, name, SimpleNamespace(from_pretrained=lambda *_, found=found, **__: found))
    judge = JudgezooJudge(JudgezooSettings(preset="strong_reject", harmful_from=0.2), "judges.harm")
    template = len(tokenizer(judge.zoo.SR_CLS_PROMPT).input_ids)
    judge.zoo.tokenizer.model_max_length = template + 60
    said = judge.judge_all([Exchange("blick the zorp", "", answer) for answer in ("sure.", "zorp " * 200, "no.")])
    assert [one.label for one in said[::2]] == ["harmful"] * 2
    assert all(0.2 <= one.grade <= 1 for one in said[::2])
    assert (said[1].label, said[1].reason) == ("unparsed", TOO_LONG)
    assert judge.judge_all([]) == []
