"""Sweeps: of selections, which are measured at once, and of trainings."""
