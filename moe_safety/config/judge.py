"""`judge`: who says whether an answer refuses."""

from __future__ import annotations

from typing import Literal

from moe_safety.config.base import Section


class JudgeConfig(Section):
    kind: Literal["rules"] = "rules"
    """`rules` reads the answer offline."""
