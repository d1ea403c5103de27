"""The report: one page that shows what was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import COMPARISON, EVALUATED, REPORT, RISK, SELECTION, STAGES, TRAINED, Flag, Stage


def _report(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.report.report import report

    return report(config, **options)


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    from moe_safety.rundir import RunDir

    if not manifest["skipped"]:
        yield f"report: {manifest['summary']['verdict']}"
        yield from (f"  {caveat}" for caveat in manifest["summary"]["caveats"])
    yield f"report: {RunDir(config.run_dir).path(REPORT)}"


STAGES.add(
    Stage(
        "report",
        "one page of what was found, whatever stages are there",
        _report,
        writes=(REPORT,),
        reads=lambda: (RISK, SELECTION, TRAINED, EVALUATED, COMPARISON),
        lines=_lines,
        flags=(Flag("show_text", "show prompts and answers, harmful ones too"),),
        example="--show-text",
        look_at=(REPORT,),
    )
)
