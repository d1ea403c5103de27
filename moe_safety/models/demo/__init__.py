"""The demo model: a tiny mixture of experts, trained here in an invented language."""

from moe_safety.models.demo.build import demo_folder

__all__ = [
    "demo_folder",
]
