"""Risk differences, and how sure they are: errors and q-values from goals drawn again, agreement of halves of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from moe_safety import checks
from moe_safety.errors import InputError
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.select import Rule
from moe_safety.models import MoELayout
from moe_safety.scores import LABELS, SAFE, UNSAFE, Moments, Sums, difference

RISK_COLUMNS = (
    "layer",
    "expert",
    "a_safe",
    "n_safe",
    "a_unsafe",
    "n_unsafe",
    "a_safe_n",
    "a_unsafe_n",
    "risk_diff",
    "Layer_Expert",
)


def calculate_risk_diff_per_batch(
    counts: Any, tokens: Any, labels: Sequence[str], layout: MoELayout | None = None
) -> pd.DataFrame:
    """The risk difference of every expert over one batch: a table with a row per expert, by layer and expert.

    `counts` is [prompts, MoE layers, experts] (`count_routing`), `tokens` [prompts] says how many tokens were counted,
    and `labels` is safe, unsafe, benign or control for each prompt; benign and control ones are left out. Without a
    `layout` a layer is known by its order. A side without a counted token has `n` 0 and no rate: rate and difference
    are then NaN (null in Parquet), and nowhere else.

    >>> table = calculate_risk_diff_per_batch([[[4, 0]], [[1, 3]]], [4, 4], ["safe", "unsafe"])
    >>> table[["layer", "expert", "a_safe_n", "a_unsafe_n", "risk_diff"]].to_numpy().tolist()
    [[0.0, 0.0, 1.0, 0.25, -0.75], [0.0, 1.0, 0.0, 0.75, 0.75]]
    """
    counts = checks.counts_array(counts, "counts", "prompts, MoE layers, experts")
    tokens = checks.counts_array(tokens, "tokens", "prompts")
    label = _codes(labels)
    for name, given in (("tokens", tokens), ("labels", label)):
        complaint = f"is of {len(given)} prompts, and counts of {len(counts)}: they are not of the same prompts"
        checks.require(len(given) == len(counts), name, complaint)
    most = counts.reshape(len(counts), -1).max(axis=1, initial=0)
    checks.require((most <= tokens).all(), "counts", "holds more tokens of a prompt than were counted of it")
    if layout is not None:
        _check_layout(layout)
    experts = Experts.of_layout(layout) if layout else Experts.of_shape(*counts.shape[1:])
    if experts.shape != counts.shape[1:]:
        complaint = f"{counts.shape[1:]} layers and experts do not fit the layout's {experts.shape}"
        raise InputError(complaint, key="counts")
    values = np.column_stack([tokens, counts.reshape(len(counts), -1)[:, experts.flat]])
    sums = Sums(np.stack([values[label == code].sum(axis=0, keepdims=True) for code in range(len(LABELS))], axis=1))
    return frame(experts, risk_columns(sums))


def aggregate_batch_risk_diffs(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The risk differences of several batches as one table.

    `tables` are those of `calculate_risk_diff_per_batch`, about the same experts. Rates and `risk_diff` are pooled over
    all tokens; beside them stand `risk_diff_mean` and `risk_diff_std` over the batches that have a difference (the
    deviation is NaN where fewer than two have).

    >>> one = calculate_risk_diff_per_batch([[[4, 0]], [[1, 3]]], [4, 4], ["safe", "unsafe"])
    >>> other = calculate_risk_diff_per_batch([[[4, 0]], [[2, 2]]], [4, 4], ["safe", "unsafe"])
    >>> aggregate_batch_risk_diffs([one, other])["risk_diff"].tolist()
    [-0.625, 0.625]
    """
    checks.require(
        isinstance(tables, list | tuple), "tables", f"is a {type(tables).__name__}, and not a list of tables"
    )
    checks.require(tables, "tables", "holds no batch to aggregate")
    for number, table in enumerate(tables):
        checks.table(table, f"tables, number {number}", RISK_COLUMNS)
    tables = [table.sort_values(["layer", "expert"]) for table in tables]
    pairs = tables[0][["layer", "expert"]].to_numpy()
    if any(not np.array_equal(table[["layer", "expert"]].to_numpy(), pairs) for table in tables):
        raise InputError("are not about the same experts", key="tables")
    values = np.zeros((len(tables), len(LABELS), 1 + len(pairs)), np.int64)
    for batch, table in zip(values, tables, strict=True):
        for code in (SAFE, UNSAFE):
            batch[code] = [table[f"n_{LABELS[code]}"].iloc[0], *table[f"a_{LABELS[code]}"]]
    places = np.arange(len(pairs))
    return frame(
        Experts(pairs[:, 0], pairs[:, 1], places, (1, len(pairs))),
        pooled_columns(Sums(values).pooled(), Moments().add(difference(Sums(values)))),
    )


def identify_unsafe_experts(
    table: pd.DataFrame, threshold: float | None = 0.05, top_k: int = 50, *, score: str = "risk_diff"
) -> list[Pair]:
    """The `top_k` experts of the highest score strictly above `threshold`, best first, ties by (layer, expert).

    `table` has the columns `layer`, `expert` and `score`, its rows in any order; an expert whose score is undefined is
    never chosen. `threshold`, from 0 on, is `identify.threshold`; None leaves all. Returns (layer, expert) pairs.

    >>> table = calculate_risk_diff_per_batch([[[4, 0]], [[1, 3]]], [4, 4], ["safe", "unsafe"])
    >>> identify_unsafe_experts(table, threshold=0.05, top_k=50)
    [(0, 1)]
    """
    checks.table(table, "table", ("layer", "expert", score))
    checks.require(pd.api.types.is_numeric_dtype(table[score]), "table", f"holds what is no number in '{score}'")
    if threshold is not None:
        checks.real_number(threshold, "threshold", least=0)
    checks.whole_number(top_k, "top_k")
    ordered = table.sort_values(["layer", "expert"])
    if ordered.duplicated(["layer", "expert"]).any():
        raise InputError("has an expert in more than one row; aggregate the batches first", key="table")
    (chosen,) = Rule(threshold, top_k).choose(ordered[score].to_numpy(np.float64, na_value=np.nan)[None])
    best = ordered.iloc[chosen]
    return list(zip(best["layer"].tolist(), best["expert"].tolist(), strict=True))


def create_expert_mask(layout: MoELayout, experts: Sequence[Pair]) -> np.ndarray:
    """A mask of these (layer, expert) pairs: bool [MoE layers, experts of the largest layer], true where they stand.

    >>> from moe_safety import inspect_model
    >>> mask = create_expert_mask(inspect_model(model), [(0, 3), (1, 7)])
    >>> mask.shape, mask.nonzero()[1].tolist()
    ((2, 8), [3, 7])
    """
    _check_layout(layout)
    known = Experts.of_layout(layout)
    return known.matrix(known.members([checks.pairs(experts)])[0], False)


def _check_layout(layout: object) -> None:
    complaint = f"is a {type(layout).__name__}, and not what inspect_model returns"
    checks.require(isinstance(layout, MoELayout), "layout", complaint)


def risk_columns(sums: Sums) -> dict[str, np.ndarray]:
    """The columns of a risk table for every group, [groups, experts] each."""
    columns: dict[str, np.ndarray] = {}
    for code in (SAFE, UNSAFE):
        columns[f"a_{LABELS[code]}"] = sums.experts[:, code]
        columns[f"n_{LABELS[code]}"] = np.broadcast_to(sums.tokens[:, code, None], sums.experts[:, code].shape)
    columns |= {f"a_{LABELS[code]}_n": sums.rate(code) for code in (SAFE, UNSAFE)}
    return columns | {"risk_diff": difference(sums)}


def pooled_columns(pooled: Sums, by_batch: Moments) -> dict[str, np.ndarray]:
    """The columns of the aggregated table: pooled over tokens, and mean and deviation of the batches' differences."""
    return risk_columns(pooled) | {"risk_diff_mean": by_batch.mean, "risk_diff_std": by_batch.std}


def frame(experts: Experts, columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """The columns of one group as a table, in the order that SPEC has them."""
    named = {"layer": experts.layer, "expert": experts.expert, "Layer_Expert": experts.names}
    everything = pd.DataFrame(named | {name: values.reshape(-1) for name, values in columns.items()})
    return everything[[*RISK_COLUMNS, *(name for name in columns if name not in RISK_COLUMNS)]]


def _codes(labels: Sequence[str]) -> np.ndarray:
    complaint = f"is a {type(labels).__name__}, and not a list of labels"
    checks.require(isinstance(labels, Iterable) and not isinstance(labels, str), "labels", complaint)
    unknown = next((label for label in labels if label not in LABELS), None)
    if unknown is not None:
        raise InputError(f"unknown label {unknown!r}; known are {', '.join(LABELS)}", key="labels")
    return np.array([LABELS.index(label) for label in labels], dtype=np.int64)


def standard_error(rounds: np.ndarray, n_goals: int) -> np.ndarray:
    """The standard error of each column of [rounds, experts]; NaN with fewer than two rounds of a value, or one goal.

    Goals that are drawn from those at hand vary about these goals' own mean, and so a little too little.
    """
    rounds = _defined(rounds)
    if len(rounds) < 2 or n_goals < 2:
        return np.full(rounds.shape[1], np.nan)
    return rounds.std(axis=0, ddof=1) * np.sqrt(n_goals / (n_goals - 1))


def q_values(pooled: Sums, rounds: np.ndarray, n_goals: int) -> np.ndarray:
    """Benjamini-Hochberg over all experts, from Student's t of each risk difference, two-sided.

    The error is at least what tokens would leave to chance if each were routed by itself: an expert that by luck got
    no token of one label shows no spread there. Its degrees of freedom count the goals and, since the error itself was
    drawn, the rounds. No p-value goes below 2^(1 - goals), the least that turning the signs of whole goals can reach.
    """
    from scipy import stats

    estimate, rounds = difference(pooled)[0], _defined(rounds)
    if len(rounds) < 2 or np.isnan(estimate).any():
        return np.full(len(estimate), np.nan)
    if n_goals < 2:
        return np.ones(len(estimate))
    error = np.maximum(standard_error(rounds, n_goals), _chance_error(pooled))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(estimate == 0, 0, np.abs(estimate) / error)
    freedom = 1 / (1 / (n_goals - 1) + 1 / (len(rounds) - 1))
    p = np.maximum(2 * stats.t.sf(t, freedom), 2.0 ** (1 - n_goals))
    return stats.false_discovery_control(p)


def split_half_correlation(whole: Sums, halves: Sums) -> float | None:
    """Spearman's correlation, over experts, of the differences in one half of the goals with those in the other:
    the mean over random halvings. None where no halving has differences on both sides that differ among experts."""
    from scipy import stats

    pairs = zip(difference(halves), difference(Sums(whole.values - halves.values)), strict=True)
    found = [stats.spearmanr(one, other).statistic for one, other in pairs if np.ptp(one) > 0 and np.ptp(other) > 0]
    return float(np.mean(found)) if found else None


def _chance_error(pooled: Sums) -> np.ndarray:
    """The error of a difference between two draws of single tokens, at the rate of both labels together."""
    tokens, experts = pooled.tokens[0, [SAFE, UNSAFE]], pooled.experts[0, [SAFE, UNSAFE]]
    rate = experts.sum(axis=0) / tokens.sum()
    return np.sqrt(rate * (1 - rate) * (1 / tokens).sum())


def _defined(rounds: np.ndarray) -> np.ndarray:
    """Leaves out the rounds that drew no counted token of a label they need."""
    return rounds[~np.isnan(rounds).any(axis=1)]
