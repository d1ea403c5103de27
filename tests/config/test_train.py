import pytest

from moe_safety.config import TrainConfig
from moe_safety.train.engines.deepspeed import deepspeed_config
from moe_safety.train.schedule import learning_rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"routing": "replay", "masking": "routing"}, "replay keeps the choices"),
        ({"launch": "process", "num_workers": 2}, "one worker"),
        ({"mode": "baseline", "router": {"enabled": True}}, "no router phase"),
        ({"deepspeed": {"gradient_clipping": 1.0}}, r"`gradient_clipping` is set by train\.clip"),
        ({"deepspeed": {"fp16": {"enabled": True}}}, r"`fp16` is set by model\.dtype"),
        ({"deepspeed": {"zero_optimization": 3}}, "a mapping whose stage is"),
        ({"deepspeed": {"zero_optimization": {"stage": 9}}}, "a mapping whose stage is"),
        ({"deepspeed": {"zero_optimization": {"stage": 0}}}, "a mapping whose stage is"),
        ({"deepspeed": {"wall_clock_breakdown": True}}, "a mapping whose stage is"),
        ({"launch": "process", "deepspeed": 2}, "deepspeed wants workers"),
        ({"routing": "replay", "deepspeed": 3}, "ZeRO-3 spreads"),
        ({"batch_weights": {"0": -1.0}}, "greater than or equal to 0"),
        ({"batch_weights": {"0": float("nan")}}, "finite number"),
        ({"learning_rate": float("inf")}, "finite number"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_the_rate_rises_then_falls():
    def rates(**settings):
        return [round(learning_rate(1.0, step, 10, TrainConfig(**settings)), 3) for step in range(10)]

    assert rates(schedule="constant") == [1.0] * 10
    assert rates(schedule="linear") == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert rates(schedule="constant", warmup_ratio=0.4) == [0.25, 0.5, 0.75, *[1.0] * 7]
    assert rates(schedule="cosine", warmup_ratio=0.2)[:3] == [0.5, 1.0, 1.0]
    assert rates(schedule="cosine")[5] == 0.5


def test_deepspeed_gets_what_must_hold_and_keeps_the_rest():
    import torch

    own = {"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}
    made = deepspeed_config(own, None, torch.bfloat16)
    assert made["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}
    assert made["zero_optimization"]["leaf_module"] == {"classes": []}
    assert made["gradient_clipping"] == 0.0
    assert made["bf16"] == {"enabled": True}
