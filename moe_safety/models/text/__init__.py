"""What goes into a model and comes out: chat templates, rows of tokens, answers and their losses."""

from moe_safety.models.text.chat import Chat
from moe_safety.models.text.encode import Answer, Limits, Padded, answer_span, pad_left, pad_right

__all__ = [
    "Answer",
    "Chat",
    "Limits",
    "Padded",
    "answer_span",
    "pad_left",
    "pad_right",
]
