"""How far experts moved, against what was done to their weights."""

import pytest
import torch

from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.report.change import relative_change
from tests.checkpoints.pairs import load, save_base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_the_change_is_relative_to_the_expert(family, dtype, tmp_path):
    base = save_base(family, tmp_path / "base", dtype)
    model = load(base)
    first, last = inspect_model(model).layers[0], inspect_model(model).layers[-1]
    for layer, expert, factor in ((first, 0, 1.5), (last, 1, 0.75), (last, 0, 1.0)):
        for path in layer.parameters:
            model.get_parameter(path).data[expert] *= factor
    model.save_pretrained(tmp_path / "tuned")
    found = relative_change(base, tmp_path / "tuned")
    assert found.keys() == set(inspect_model(model).experts())
    assert {expert: change for expert, change in found.items() if change} == pytest.approx(
        {(first.index, 0): 0.5, (last.index, 1): 0.25}, rel=0.01
    )
    some = [(last.index, 1), (last.index, 0)]
    assert relative_change(base, tmp_path / "tuned", some) == {expert: found[expert] for expert in some}


def test_two_types_are_not_compared(tmp_path):
    base = save_base("olmoe", tmp_path / "base")
    tuned = save_base("olmoe", tmp_path / "tuned", torch.bfloat16)
    with pytest.raises(InputError, match="in another form than the base"):
        relative_change(base, tuned)
