"""Sweeps of selections."""
