"""Figures as SVG: pure functions from plain data to a string.

Every figure is as wide as the page lets it be, and its text keeps its size: places are per cent of the plot, and what
has to stretch stands in an inner SVG that may. Colours are classes, which `report.css` fills in for either theme.
"""
