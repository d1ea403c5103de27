"""Every planting's figures for every score, and their means with intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from benchmarks.planted.measures import (
    auroc,
    carried,
    chance_curve,
    oracle_curve,
    recall,
    reset_curve,
    towards_oracle,
)
from moe_safety.errors import InputError
from moe_safety.rundir import RunDir

MEASURES = {"auroc": "AUROC", "weighted": "AUROC by what each carries", "recall": "recall at k", "reset": "reset curve"}
ORACLE, CHANCE = "best order", "mean of all orders"
_LEVEL = 0.95

Summary = dict[Any, dict[str, "Estimate"]]
"""By what the plantings are grouped by, the estimate of each measure."""


def percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def read_results(out: str) -> list[dict[str, Any]]:
    run = RunDir(out)
    results = [run.read_json(name) for name in run.names("results", ".json")]
    if not results:
        raise InputError("holds no result; run `python -m benchmarks.planted run` first", file=run.path("results"))
    return results


def plantings(results: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that took, each with its shape and seed."""
    for result in results:
        for planting in result["plantings"]:
            if planting["took"]:
                yield {"shape": result["shape"], "seed": result["seed"], **planting}


def figures(results: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each planting and score."""
    rows = []
    for planting in plantings(results):
        guilty, success = np.array(planting["guilty"]), np.array(planting["success"])
        weights = np.maximum(carried(success), 0)
        oracle, chance = oracle_curve(len(guilty), success), chance_curve(len(guilty), success)
        for name, values in planting["scores"].items():
            scores = np.array(values)
            rows.append(
                {
                    **{key: planting[key] for key in ("shape", "seed", "share")},
                    "score": name,
                    "auroc": auroc(scores, guilty),
                    "weighted": auroc(scores, guilty, weights),
                    "recall": recall(scores, guilty),
                    "reset": towards_oracle(reset_curve(scores, guilty, success), oracle, chance),
                }
            )
    return pd.DataFrame(rows)


def curves(results: list[dict[str, Any]], share: float) -> dict[str, np.ndarray]:
    """Mean reset curves of this share: of every score, of the best order and of all orders."""
    found: dict[str, list[np.ndarray]] = {}
    for planting in plantings(results):
        if planting["share"] == share:
            guilty, success = np.array(planting["guilty"]), np.array(planting["success"])
            found.setdefault(ORACLE, []).append(oracle_curve(len(guilty), success))
            found.setdefault(CHANCE, []).append(chance_curve(len(guilty), success))
            for name, values in planting["scores"].items():
                found.setdefault(name, []).append(reset_curve(np.array(values), guilty, success))
    return {name: np.mean(several, axis=0) for name, several in found.items()}


@dataclass(frozen=True)
class Estimate:
    """A mean over plantings and its 95 % interval, Student's t; NaN where there is but one."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Estimate:
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean, np.nan, np.nan)
        half = float(stdtrit(len(values) - 1, (1 + _LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(len(values)))
        return cls(mean, mean - half, mean + half)

    @property
    def may_be_chance(self) -> bool:
        """Of an AUROC: whether its interval reaches 0.5. Without an interval nothing is known."""
        return not self.low > 0.5

    def __str__(self) -> str:
        """Of a quantity that cannot exceed 1."""
        interval = "" if np.isnan(self.low) else f" [{self.low:.2f}, {min(self.high, 1):.2f}]"
        return f"{self.mean:.2f}{interval}"


def estimates(frame: pd.DataFrame, by: list[str]) -> Summary:
    """Every measure, by the values of these columns."""
    return {
        key: {measure: Estimate.of(group[measure].to_numpy()) for measure in MEASURES}
        for key, group in frame.groupby(by, sort=False)
    }
