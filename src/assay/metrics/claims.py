"""Sentences about gains. Which of two systems is better is said here and nowhere else, from figures alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from assay.metrics.intervals import LEVEL, MIN_GROUPS

Outcome = Literal["better", "worse", "not told apart", "not enough groups"]


def corrected(report: Mapping[str, Any], key: str, *, comparisons: int = 1) -> tuple[float, float]:
    """Limits of a `gain` that hold for all of ``comparisons`` together; (nan, nan) where there is no interval.

    Bonferroni's correction (Dunn 1961) of an interval by a t quantile with ``n_groups`` - 1 degrees of freedom: both arms
    are stretched from the quantile at level 1 - a to the one at 1 - a / comparisons. ValueError if ``comparisons`` < 1.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, got {comparisons}; count what is compared in one breath")
    value, low, high = (_number(report[f"{key}{end}"]) for end in ("", "_low", "_high"))
    if comparisons > 1:
        from scipy.stats import t

        tail, freedom = (1.0 - LEVEL) / 2.0, max(1, report["n_groups"] - 1)
        stretch = float(t.isf(tail / comparisons, freedom) / t.isf(tail, freedom))
        low, high = value - stretch * (value - low), value + stretch * (high - value)
    return low, high


def outcome(
    report: Mapping[str, Any], key: str, *, comparisons: int = 1, lower_is_better: bool = False
) -> tuple[Outcome, float, float]:
    """What a `gain` says of two systems, and its limits after the correction.

    Args:
        report: ``<key>``, ``<key>_low``, ``<key>_high`` as `gain` gives them (NaN, or null as in JSON, where undefined) and
            ``n_groups``.
        comparisons: see `corrected`.
        lower_is_better: of an error, a loss.

    Returns:
        ``not enough groups`` below `MIN_GROUPS`; ``better`` or ``worse`` where the interval lies on one side of 0; else
        ``not told apart``, also where nothing is defined.
    """
    low, high = corrected(report, key, comparisons=comparisons)
    if report["n_groups"] < MIN_GROUPS:
        return "not enough groups", low, high
    if low > 0 or high < 0:
        return ("worse" if (low > 0) == lower_is_better else "better"), low, high
    return "not told apart", low, high


def claim(
    report: Mapping[str, Any],
    key: str,
    *,
    ours: str,
    theirs: str,
    metric: str,
    comparisons: int = 1,
    lower_is_better: bool = False,
    one_training: bool = False,
    exploratory: bool = False,
) -> str:
    """``A against B, accuracy: better (+0.0412 [+0.0123, +0.0701]; 216 groups, one training).``

    Args:
        report, key, comparisons, lower_is_better: see `outcome`.
        ours, theirs, metric: in words; the gain is ours minus theirs.
        one_training: a network was trained once, so that another seed may move the gain by more than the interval says.
        exploratory: what is compared was not fixed before the figures were seen.
    """
    found, low, high = outcome(report, key, comparisons=comparisons, lower_is_better=lower_is_better)
    value, groups = _number(report[key]), f"{report['n_groups']:.0f} groups"
    # Four decimals: with three a limit may look like 0 that is not.
    numbers = "undefined" if math.isnan(value) else f"{value:+.4f}"
    if found == "not enough groups":
        groups = f"{groups}, of {MIN_GROUPS} that an interval takes"
    elif not math.isnan(low):
        numbers += f" [{low:+.4f}, {high:+.4f}]"
    notes = [groups]
    if comparisons > 1:
        notes.append(f"corrected for {comparisons} comparisons")
    notes += [word for word, holds in (("one training", one_training), ("exploratory", exploratory)) if holds]
    return f"{ours} against {theirs}, {metric}: {found} ({numbers}; {', '.join(notes)})."


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
