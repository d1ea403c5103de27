"""From results to a page: figures over seeds, tables, pictures, and the text around them."""

from benchmarks.planted.report.page import write_report

__all__ = ["write_report"]
