"""Tables for people: systems with their metrics and intervals, mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from assay.metrics.intervals import MIN_GROUPS


def interval_text(report: Mapping[str, float | None], name: str) -> str:
    """``0.912 [0.880, 0.941]``, without brackets where there is no interval, ``-`` where there is no value.

    ``[not enough groups]`` stands where an interval would, had the sample more groups.
    """
    value, low, high = (report.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    if low is None or high is None or low != low:
        few = (report.get("n_groups") or MIN_GROUPS) < MIN_GROUPS
        return f"{value:.3f} [not enough groups]" if few else f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def sections(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Flat keys ``<system>.<metric>`` as system -> metric -> value; keys without a dot are left out."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in metrics.items():
        system, dot, name = key.rpartition(".")
        if dot:
            found.setdefault(system, {})[name] = value
    return found


def size_of(report: Mapping[str, Any]) -> list[str]:
    """Rows and groups of what was measured; dashes where nothing was."""
    return [f"{report[name]:.0f}" if name in report else "-" for name in ("n", "n_groups")]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def system_table(metrics: Mapping[str, float | None], systems: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Rows are systems, columns n, groups and metrics, from flat keys such as ``test.auc`` and ``test.auc_low``."""
    reports, rows = sections(metrics), {}
    for system in systems:
        report = reports.get(system, {})
        counts = {"n": report.get("n"), "groups": report.get("n_groups")}
        rows[system] = {name: "-" if count is None else f"{count:.0f}" for name, count in counts.items()}
        rows[system] |= {name: interval_text(report, name) for name in names}
    return pd.DataFrame(rows).T


def confident_mistakes(
    rows: pd.DataFrame, labels: np.ndarray, probs: np.ndarray, classes: Sequence[str]
) -> pd.DataFrame:
    """The rows that were judged wrongly, the most confident first.

    Args:
        rows: n rows with a column sample_id, which decides between equal confidences.
        labels: int64 [n].
        probs: [n, num_classes].
        classes: names of the classes.

    Returns:
        ``rows`` with the columns true, predicted (names) and confidence (to 4 decimals).
    """
    names, predicted = np.array(classes), probs.argmax(axis=1)
    table = rows.assign(true=names[labels], predicted=names[predicted], confidence=probs.max(axis=1).round(4))
    return table[predicted != labels].sort_values(["confidence", "sample_id"], ascending=[False, True])
