"""Sentences about gains. Which of two systems is better is said here and nowhere else, from figures alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from assay.metrics.intervals import MIN_GROUPS

Outcome = Literal["better", "worse", "not told apart", "not enough groups"]


def outcome(report: Mapping[str, Any], key: str, *, lower_is_better: bool = False) -> Outcome:
    """What a `gain` says of two systems.

    ``not enough groups`` below `MIN_GROUPS`; ``better`` or ``worse`` where the interval lies on one side of 0; else
    ``not told apart``, also where nothing is defined.

    Args:
        report: ``<key>``, ``<key>_low``, ``<key>_high`` as `gain` gives them (NaN, or null as in JSON, where undefined) and
            ``n_groups``.
        lower_is_better: of an error, a loss.
    """
    low, high = (_number(report[f"{key}{end}"]) for end in ("_low", "_high"))
    if report["n_groups"] < MIN_GROUPS:
        return "not enough groups"
    if low > 0 or high < 0:
        return "worse" if (low > 0) == lower_is_better else "better"
    return "not told apart"


def told(
    report: Mapping[str, Any],
    key: str,
    *,
    comparisons: int = 1,
    lower_is_better: bool = False,
    one_training: bool = False,
    exploratory: bool = False,
) -> str:
    """``better (+0.0412 [+0.0123, +0.0701]; 216 groups, one training)``: the outcome with what it rests on.

    Args:
        report, key, lower_is_better: see `outcome`.
        comparisons: how many gains this interval holds together (`gains_together`).
        one_training: a network was trained once, so that another seed may move the gain by more than the interval says.
        exploratory: what is compared was not fixed before the figures were seen.
    """
    found = outcome(report, key, lower_is_better=lower_is_better)
    value, low, high = (_number(report[f"{key}{end}"]) for end in ("", "_low", "_high"))
    groups = f"{report['n_groups']:.0f} groups"
    # Four decimals: with three a limit may look like 0 that is not.
    numbers = "undefined" if math.isnan(value) else f"{value:+.4f}"
    if found == "not enough groups":
        groups = f"{groups}, of {MIN_GROUPS} that an interval takes"
    elif not math.isnan(low):
        numbers += f" [{low:+.4f}, {high:+.4f}]"
    notes = [groups]
    if comparisons > 1:
        notes.append(f"holds for {comparisons} comparisons together")
    notes += [word for word, holds in (("one training", one_training), ("exploratory", exploratory)) if holds]
    return f"{found} ({numbers}; {', '.join(notes)})"


def claim(report: Mapping[str, Any], key: str, *, ours: str, theirs: str, metric: str, **options: Any) -> str:
    """``A against B, accuracy: `` and what is `told` of the gain, which is ours minus theirs; ``options`` of `told`."""
    return f"{ours} against {theirs}, {metric}: {told(report, key, **options)}."


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
