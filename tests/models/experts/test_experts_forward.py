import pytest
import torch

from moe_safety.errors import InputError
from moe_safety.models.experts import use_our_experts
from tests.families import FAMILIES, build


@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_equal_the_family_s_own(name):
    """Every flag of the experts interface: transposed, biased, interleaved, without gate, with a norm after."""
    model = build(name)
    ids = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(1))

    def run():
        model.zero_grad()
        logits = model(input_ids=ids, use_cache=False).logits
        logits.square().mean().backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return logits.detach(), grads

    model.set_experts_implementation("eager")
    logits, grads = run()
    use_our_experts(model)
    ours, our_grads = run()
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-5)
    assert our_grads.keys() == grads.keys()
    for parameter, grad in grads.items():
        torch.testing.assert_close(our_grads[parameter], grad, rtol=1e-3, atol=1e-6, msg=parameter)


def test_a_model_whose_experts_cannot_be_set_is_told_of_at_once(monkeypatch):
    """As where its file lacks transformers' decorator, which transformers looks for in the source."""
    model = build("mixtral")
    for cls in (type(model), type(model.model)):
        monkeypatch.setattr(cls, "_can_set_experts_implementation", classmethod(lambda cls: False))
    with pytest.raises(InputError, match="mixtral: transformers cannot set what runs its experts"):
        use_our_experts(model)
