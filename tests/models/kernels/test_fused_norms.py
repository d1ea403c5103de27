"""Norms that run fused on a GPU: only those whose formula is the plain one, and on a CPU nothing changes."""

import copy

import pytest
import torch

from moe_safety.models.kernels.fused_norms import FusedNorm, fuse_norms, fused
from tests.families import FAMILIES, build

TOKENS = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_fused_norms_compute_what_their_own_class_does(name):
    model = build(name).eval()
    before = model(TOKENS).logits
    names = [type(module).__name__ for module in model.modules()]
    fuse_norms(fuse_norms(model))
    assert [type(module).__name__ for module in model.modules()] == names
    assert torch.equal(model(TOKENS).logits, before)
    for norm in (module for module in model.modules() if isinstance(module, FusedNorm)):
        with torch.no_grad():
            norm.weight.add_(torch.randn(norm.weight.shape))
            hidden = torch.randn(3, len(norm.weight))
            torch.testing.assert_close(fused(norm, hidden), norm(hidden), rtol=1e-5, atol=1e-5)


def fused_names(name):
    return [name for name, module in fuse_norms(build(name)).named_modules() if isinstance(module, FusedNorm)]


def test_all_norms_of_plain_families_are_fused():
    for name, each in (("olmoe", 4), ("mixtral", 2), ("qwen3_moe", 4), ("deepseek_v3", 4)):
        layers = build(name).config.num_hidden_layers
        assert len(fused_names(name)) == each * layers + 1, name
    assert not fused_names("qwen3_next"), "its norms add 1 to their weights"


def test_a_norm_with_a_formula_of_its_own_is_left_alone():
    model = build("olmoe")

    class Shifted(type(model.model.norm)):
        def forward(self, hidden_states):
            return super().forward(hidden_states) + hidden_states * self.weight

    class Gated(type(model.model.norm)):
        def forward(self, hidden_states, gate):
            return super().forward(hidden_states) * gate

    for cls in (Shifted, Gated):
        other = copy.deepcopy(model)
        other.model.norm.__class__ = cls
        fuse_norms(other)
        assert type(other.model.norm) is cls
        assert isinstance(other.model.layers[0].input_layernorm, FusedNorm)


def test_a_gate_that_may_be_given_goes_to_the_norm_s_own_class():
    model = build("olmoe")
    hidden, gate = torch.randn(2, 3, 32)

    class Gated(type(model.model.norm)):
        def forward(self, hidden_states, gate=None):
            normed = super().forward(hidden_states)
            return normed if gate is None else normed * gate

    model.model.norm.__class__ = Gated
    expected = model.model.norm(hidden, gate), model.model.norm(hidden, gate=gate)
    fuse_norms(model)
    assert isinstance(model.model.norm, FusedNorm), "without a gate it is plain"
    assert torch.equal(model.model.norm(hidden, gate), expected[0])
    assert torch.equal(model.model.norm(hidden, gate=gate), expected[1])


def test_a_norm_of_groups_is_left_alone():
    """Of whatever size they are: one group alone would look plain."""
    model = build("olmoe")

    class Grouped(type(model.model.norm)):
        def forward(self, hidden_states):
            groups = hidden_states.unflatten(-1, (-1, 8))
            return self.weight * torch.nn.functional.rms_norm(groups, (8,), eps=self.variance_epsilon).flatten(-2)

    model.model.norm.__class__ = Grouped
    assert not isinstance(fuse_norms(model).model.norm, FusedNorm)


def test_a_copy_of_a_model_has_norms_of_its_own():
    model = fuse_norms(build("olmoe"))
    twin = copy.deepcopy(model)
    twin.model.norm.weight.data.zero_()
    assert not twin(TOKENS).logits.any()
    assert model(TOKENS).logits.any()


def test_modules_of_one_class_stay_of_one_class():
    norms = {type(module) for module in fuse_norms(build("olmoe")).modules() if isinstance(module, FusedNorm)}
    assert len(norms) == 1
