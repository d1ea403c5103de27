"""The rules by which routers get from logits to chosen experts and their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SCALES = ("routed_scaling_factor", "router_scaling_factor", "route_scale")


@dataclass(frozen=True)
class RouterCall:
    """One call of a router: what it was told beside the hidden states, and what it answered. Rows are tokens."""

    router: Any
    bias: torch.Tensor | None
    """The correction bias, where the block holds it and hands it over."""
    logits: torch.Tensor
    weights: torch.Tensor
    index: torch.Tensor


@dataclass(frozen=True)
class Rule:
    """Score every expert, choose the best, weigh the chosen by their scores. Settings are read from the router."""

    normalise: bool = True
    """Whether weights are divided by their sum, where the router itself does not say."""
    dtype: str | None = "float32"
    """What scores are computed in, by its name; None is the type of the logits."""
    added: float = 1e-20
    """What keeps that sum from being zero."""
    speakers: int = 2
    """The number of best experts by whose sum a group is ranked, where tokens may use some groups only."""

    def scores(self, call: RouterCall) -> torch.Tensor:
        """What the chosen experts' weights are made from, [tokens, experts]."""
        raise NotImplementedError

    def bias(self, call: RouterCall) -> torch.Tensor | float:
        """What is added to the scores for the choice alone."""
        return call.bias if call.bias is not None else getattr(call.router, "e_score_correction_bias", 0.0)

    def order(self, call: RouterCall) -> torch.Tensor:
        """All experts of each token, best first; those of groups that the token may not use come last."""
        import torch

        with torch.no_grad():
            choice = self.scores(call) + self.bias(call)
            order = choice.argsort(dim=-1, descending=True, stable=True)
            outside = self._outside(call.router, choice)
            if outside is None:
                return order
            return order.gather(1, outside.gather(1, order).byte().argsort(dim=-1, stable=True))

    def weights(self, call: RouterCall, index: torch.Tensor) -> torch.Tensor:
        """The weights [tokens, top_k] that the router gives to these experts where they are the chosen ones."""
        weights = self.weigh(call, self.scores(call).gather(1, index), index)
        scale = next((getattr(call.router, name) for name in _SCALES if hasattr(call.router, name)), 1.0)
        return (weights * scale).to(call.weights.dtype)

    def weigh(self, call: RouterCall, chosen: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Weights from the chosen experts' scores, before scaling."""
        if not getattr(call.router, "norm_topk_prob", self.normalise):
            return chosen
        return chosen / (chosen.sum(dim=-1, keepdim=True) + self.added)

    def probabilities(self, call: RouterCall) -> torch.Tensor:
        """The router's distribution over experts, float32 [tokens, experts]."""
        raise NotImplementedError

    def _typed(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits in the type that scores are computed in."""
        import torch

        return logits if self.dtype is None else logits.to(getattr(torch, self.dtype))

    def _outside(self, router: Any, choice: torch.Tensor) -> torch.Tensor | None:
        """Which experts stand in groups that the token may not use; None where there are no groups."""
        if getattr(router, "num_group", None) is None or getattr(router, "topk_method", None) == "greedy":
            return None
        import torch

        groups = choice.view(len(choice), router.num_group, -1)
        strength = groups.topk(self.speakers, dim=-1).values.sum(dim=-1)
        best = strength.topk(router.topk_group, dim=-1).indices
        outside = torch.ones_like(strength, dtype=torch.bool).scatter_(1, best, False)
        return outside.repeat_interleave(groups.shape[-1], dim=1)


class Softmax(Rule):
    """Softmax over all experts, then the best of them."""

    def scores(self, call: RouterCall) -> torch.Tensor:
        """The softmax over all experts."""
        return self._typed(call.logits).softmax(dim=-1)

    def probabilities(self, call: RouterCall) -> torch.Tensor:
        """The softmax over all experts, in float32."""
        return self.scores(call).float()


class SoftmaxOfChosen(Rule):
    """The best logits, then softmax over these alone."""

    def scores(self, call: RouterCall) -> torch.Tensor:
        """The logits."""
        return call.logits

    def weigh(self, call: RouterCall, chosen: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The softmax over the chosen experts."""
        return chosen.softmax(dim=-1)

    def probabilities(self, call: RouterCall) -> torch.Tensor:
        """The softmax over all experts, in float32."""
        return call.logits.float().softmax(dim=-1)


class Sigmoid(Rule):
    """Each expert scored by itself, a correction bias for the choice, often groups."""

    def scores(self, call: RouterCall) -> torch.Tensor:
        """The sigmoid of each logit, or the router's own function."""
        logits = self._typed(call.logits)
        scored: torch.Tensor = call.router.score_fn(logits) if hasattr(call.router, "score_fn") else logits.sigmoid()
        return scored

    def probabilities(self, call: RouterCall) -> torch.Tensor:
        # Such a router defines no distribution of its own: the scores, brought to a sum of one, stand for it. The
        # correction bias is left out, as it is from the weights; it balances load and says nothing of the token.
        scores = self.scores(call).float()
        return scores / scores.sum(dim=-1, keepdim=True)
