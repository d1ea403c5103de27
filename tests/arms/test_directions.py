"""Directions are fixed: no loss and no setting makes a refusal less likely by its sign."""

from typing import Any

import pytest
import torch
from pydantic import BaseModel

from moe_safety.arms import ARMS, LOSSES, ForwardPass, TokenLosses, token_losses
from moe_safety.batches import Example
from moe_safety.config import Config, load_config
from moe_safety.errors import InputError

REFUSAL, ANSWER, HELP = [7, 8, 9], [4, 5, 6, 2], [3, 2]
ROWS = [
    Example(0, 0, "safe", [1, 2], REFUSAL, [1, 2], REFUSAL),
    Example(0, 1, "unsafe", [1, 3], REFUSAL, [1, 3, 3], ANSWER),
    Example(0, 2, "unsafe", [1, 3], REFUSAL),
    Example(0, 3, "benign", [1, 4], HELP, [1, 4], HELP),
    Example(0, 4, "control", [1, 5], HELP, [1, 5], HELP),
]


def numbers_of(section: type[BaseModel], at: str) -> list[str]:
    """The keys of a section, and of sections in it, that take a number."""
    found = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += numbers_of(kind, f"{at}.{name}")
        elif any(type_ in (int, float) for type_ in (kind, *getattr(kind, "__args__", ()))):
            found.append(f"{at}.{name}")
    return found


OF_ARMS = [key for arm in ARMS if arm.section for key in numbers_of(arm.section, f"arms.{arm.name}")]
OF_TRAINING = numbers_of(Config.model_fields["train"].annotation, "train")


def refuses(flag: str) -> None:
    with pytest.raises(InputError, match=flag.split("=")[0].replace(".", r"\.")):
        load_config("configs/demo.yaml", [flag])


@pytest.mark.parametrize("key", [*OF_ARMS, *OF_TRAINING])
def test_no_coefficient_is_negative(key):
    refuses(f"{key}=-1")
    if key in OF_ARMS:
        refuses(f"{key}=-1e-9")


def test_the_keys_that_could_turn_a_loss_round_are_among_them():
    assert {"arms.dpo.beta"} <= set(OF_ARMS)
    assert {"train.learning_rate", "train.router.lr", "train.weight_decay", "train.clip"} <= set(OF_TRAINING)
    refuses("train.batch_weights={0: -1}")
    refuses("train.deepspeed={zero_optimization: {stage: 2}, optimizer: {params: {lr: -1}}}")


def settings_of(loss: str) -> list[Any]:
    """Those of the arms with this loss: as they come, and each number far down and far up."""
    found: list[Any] = []
    for section in (arm.section for arm in ARMS if arm.loss == loss):
        found.append(section and section())
        for key in numbers_of(section, "") if section else ():
            lowest = 1 if section.model_fields[key[1:]].annotation is int else 1e-6
            found += [section(**{key[1:]: value}) for value in (lowest, 1, 1000)]
    return found or [None]


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.measures is token_losses], ids=lambda loss: loss.name)
def test_a_likelier_refusal_is_a_lower_loss_and_a_likelier_answer_of_an_attack_is_not(loss):
    """The gradient with respect to -log p of each token: none is negative of what a row shall say, and none is positive
    of what an attack got."""
    for number, own in enumerate(settings_of(loss.name)):
        read = [loss.reads(row) for row in ROWS]
        targets = [(row, one) for row, each in zip(ROWS, read, strict=True) for one in each]
        of = torch.cat([torch.full((len(one.target),), place) for place, (_, one) in enumerate(targets)])
        generator = torch.Generator().manual_seed(5)
        now = (0.1 + torch.rand(len(of), generator=generator)).requires_grad_()
        before = TokenLosses(0.1 + torch.rand(len(of), generator=generator), of)
        loss.terms(ForwardPass(read, TokenLosses(now, of), before, own)).backward()
        for place, (row, one) in enumerate(targets):
            felt = now.grad[of == place]
            wished = one.target == row.target
            assert wished or one.target == row.answer, "a row is read with its target, or with what it got"
            assert (felt >= 0).all() if wished else (felt <= 0).all(), (loss.name, own, row.label)
        refusals = torch.stack([of == place for place, (_, one) in enumerate(targets) if one.target == REFUSAL]).any(0)
        # Far up or far down a loss may be flat; as it comes it is not.
        assert now.grad[refusals].sum() > 0 or number


def test_losses_that_read_hidden_states_say_whether_they_disfavour_answers():
    """Their direction has a test of its own; where a refusal could be among the answers, they are refused by this."""
    for loss in LOSSES:
        if loss.measures is not token_losses:
            assert loss.disfavours_answers or loss.reads(ROWS[1])[0].target == REFUSAL, loss.name
