"""The table of arms in the documents."""

from benchmarks.arms import HEAD, table
from moe_safety.evaluate.costs import NOTHING
from tests.evaluate.test_gate import arm


def test_a_row_for_each_arm_with_the_spread_between_seeds():
    costs = {"steps": 4, "trained_parameters": 1200, "tokens_read": 9000, "dose": 812.4, "training_seconds": 3.21}
    spread = {name: {"values": [0.0, 0.1]} for name in ("asr", "over_refusal", "over_refusal_control")}
    spread |= {"benign_loss": {"values": [0.5, 0.5]}}
    arms = [arm("base") | NOTHING, arm("dpo") | costs | {"peak_memory_bytes": 2 * 10**9, "repeats": spread}]
    head, _, base, dpo = table(arms).splitlines()
    assert head == f"| {' | '.join(HEAD)} |"
    assert base.startswith("| `base` | 0.000 | 0.010 | 0.010 | 0.500 | 0 |")
    rates = " | ".join(["0.050 (0.000 to 0.100)"] * 3)
    assert dpo == f"| `dpo` | {rates} | 0.500 | 1,200 | 10.0% | 9,000 | 812 | 3.2 | 2.00 GB |"
