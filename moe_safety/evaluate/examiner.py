"""What a replica of `evaluate` does with items: answers, weighs and reads given answers, measures robustness."""

from __future__ import annotations

from functools import partial

from moe_safety.config import EvaluateConfig
from moe_safety.evaluate.ability import weigh
from moe_safety.evaluate.answer_shift import read_answers
from moe_safety.evaluate.harness import solve_item
from moe_safety.evaluate.plan import ANSWER_SHIFT, LOSSES, PREFILLS, ROUTING, TASKS
from moe_safety.evaluate.prefills import go_on
from moe_safety.evaluate.robustness import FINETUNED, HELD_BACK
from moe_safety.evaluate.robustness_measure import finetuned, held_back
from moe_safety.evaluate.routing_drift import read_item
from moe_safety.generation import Ability, Opening
from moe_safety.generation.items import ItemHandler, Kind
from moe_safety.identify import Pair


def examiner(opening: Opening, avoided: tuple[Pair, ...], settings: EvaluateConfig) -> ItemHandler:
    """The handler of a subject's items."""
    kinds = {
        PREFILLS: Kind(go_on),
        LOSSES: Kind(weigh, Ability.GIVES_LOSSES),
        ANSWER_SHIFT: Kind(read_answers, Ability.LENDS_MODEL),
        ROUTING: Kind(read_item, Ability.LENDS_MODEL),
        HELD_BACK: Kind(partial(held_back, settings), Ability.LENDS_MODEL),
        FINETUNED: Kind(partial(finetuned, settings), Ability.LENDS_MODEL),
        TASKS: Kind(partial(solve_item, settings), Ability.LENDS_MODEL),
    }
    return ItemHandler(opening, kinds, avoided)
