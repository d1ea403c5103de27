"""The report: one page that shows what was found."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import COMPARISON, EVALUATED, REPORT, RISK, SELECTION, STAGES, TRAINED, Stage


def _report(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.report.stage import report

    return report(config, **options)


STAGES.add(
    Stage(
        "report",
        "one page of what was found, whatever stages are there",
        _report,
        writes=(REPORT,),
        reads=lambda: (RISK, SELECTION, TRAINED, EVALUATED, COMPARISON),
    )
)
