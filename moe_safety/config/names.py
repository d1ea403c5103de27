"""The registries whose names a configuration may hold. Each is filled by the room that its things belong to, and by
other packages; `moe_safety.everything` imports all of these rooms."""

from __future__ import annotations

from typing import Any

from moe_safety.config.registry import Registry

SCORES: Registry[Any] = Registry("score", "moe_safety.scores")
ARMS: Registry[Any] = Registry("arm", "moe_safety.arms")
JUDGES: Registry[Any] = Registry("kind of judge", "moe_safety.judges")
ENGINES: Registry[Any] = Registry("engine", "moe_safety.engines")
FORMATS: Registry[Any] = Registry("format", "moe_safety.formats")
LOSSES: Registry[Any] = Registry("loss", "moe_safety.losses")
