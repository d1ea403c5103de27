"""The results of a run directory in the form that the earlier scripts wrote, for notebooks that read it."""

from moe_safety.export.pickles import export_pickles

__all__ = ["export_pickles"]
