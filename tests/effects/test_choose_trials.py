"""Which prompts experts are held back on, from batches that are read a piece at a time."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moe_safety.config import EffectsConfig
from moe_safety.effects import trials
from moe_safety.effects.trials import choose_trials
from moe_safety.errors import InputError

LABELS = ("safe", "unsafe", "control")


def batches(path, rows):
    def row(number):
        label = LABELS[number % 3]
        tokens = {"prompt_tokens": [number], "answer_tokens": [number, 1, 2] if number % 7 else []}
        return {"prompt_id": f"p{number}", "label": label, **tokens, "target_prefix": [0], "target_tokens": [number, 9]}

    pq.write_table(pa.Table.from_pylist([row(number) for number in range(rows)]), path, row_group_size=10)
    return pq.ParquetFile(path)


@pytest.mark.parametrize("piece", [1, 4, 1000])
def test_prompts_are_spread_evenly_over_the_goals_whatever_is_read_at_once(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(trials, "_ROWS_AT_ONCE", piece)
    goals = {f"p{number}": f"g{number // 6}" for number in range(60)}
    found = choose_trials(batches(tmp_path / "b.parquet", 60), goals, [5, 6, 7], EffectsConfig(prompts=4, opening=2))
    # Of each goal the last row with an answer, in the order in which goals come first.
    last = {"unsafe": {}, "control": {}}
    for number in range(60):
        if number % 7 and number % 3:
            last[LABELS[number % 3]][number // 6] = number
    expected = [
        {
            "prompt_id": f"p{number}",
            "label": label,
            "prompt": [number, 0],
            "safe": [number, 9] if label == "unsafe" else [5, 6],
            "unsafe": [number, 1],
        }
        for label, numbers in last.items()
        for number in [[*numbers.values()][place * len(numbers) // 4] for place in range(4)]
    ]
    assert found.to_pylist() == expected


def test_without_an_answered_attack_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(InputError, match="holds no unsafe prompt with an answer"):
        choose_trials(batches(tmp_path / "b.parquet", 1), {}, [], EffectsConfig())
