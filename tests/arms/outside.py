"""An arm and its loss as another package brings them: a file, and two lines that name what it declares."""

CODE = '''
"""Refusals preferred over the answers that attacks got, by direct preference optimisation."""

from moe_safety.arms import Arm, ByMethod, Loss
from moe_safety.arms.parameters import selected_experts
from moe_safety.batches import Example
from moe_safety.config import Section


class Settings(Section):
    beta: float = 0.1


def pair(row):
    if not row.answer:
        return (row,)
    place = (row.batch_idx, row.in_batch_idx, row.label)
    return (row, Example(*place, row.before_answer, row.answer))


def preferred(passed):
    from torch.nn.functional import logsigmoid

    def by_row(measured):
        return [-measured.losses[measured.row == n].sum() for n in range(sum(map(len, passed.read)))]

    now, before, place, total = by_row(passed.now), by_row(passed.before), 0, 0 * passed.now.losses.sum()
    for parts in passed.read:
        if len(parts) == 2:
            margin = now[place] - now[place + 1] - (before[place] - before[place + 1])
            total = total - logsigmoid(passed.own.beta * margin)
        place += len(parts)
    return total


loss = Loss(
    "preference",
    "-log sigmoid of beta times how far the log-odds of refusal and answer moved, mean over pairs",
    preferred,
    reads=pair,
    counts=lambda row: int(bool(row.answer)),
    needs_reference=True,
)
arm = Arm(
    "preferred",
    "The experts that routing selects were trained to prefer refusals, in {rounds}.",
    ByMethod("routing"),
    phases=("experts",),
    trains=selected_experts,
    loss="preference",
    may_change=frozenset({"experts"}),
    training_mode="preferred_experts",
    section=Settings,
)
'''

POINTS = """[moe_safety.arms]
preferred = brought_arm:arm
[moe_safety.losses]
preference = brought_arm:loss
"""


def install(folder, monkeypatch):
    """As pip would, in a folder on the path."""
    info = folder / "brought-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(POINTS)
    (folder / "brought_arm.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)
