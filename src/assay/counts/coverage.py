"""How the intervals of counts do on questions never seen: how many counts they hold, and how wide they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.counts.answers import answers_of
from assay.counts.conformal import Intervals, fit_intervals, kinds_of
from assay.metrics.binary import Resampled, resample
from assay.metrics.discrimination import FloatArray, check_weights

MAX_KINDS = 12


@dataclass(frozen=True)
class Judged:
    """The intervals of one system, what they make of the rows of test, and how they do there.

    Attributes:
        low, high: limits float64 [n], see `Intervals.limits`.
    """

    intervals: Intervals
    low: np.ndarray
    high: np.ndarray
    measured: Resampled


def judge_intervals(calib: pd.DataFrame, test: pd.DataFrame, *, level: float) -> dict[str, Judged]:
    """Intervals of every system, learned on calib and measured on test: tables of scores, see `answers_table`."""
    kinds, groups = {"calib": kinds_of(calib["setting"]), "test": kinds_of(test["setting"])}, calib["group"].to_numpy()
    on_test, found = answers_of(test), {}
    for name, said in answers_of(calib).items():
        fitted = fit_intervals(calib["counts"].to_numpy(), said.counts, kinds["calib"], groups, level=level)
        low, high = fitted.limits(on_test[name].counts, kinds["test"])
        measured = measure_intervals(test["counts"].to_numpy(), (low, high), test["group"].to_numpy())
        found[name] = Judged(fitted, low, high, measured)
    return found


def interval_metrics(
    truth: npt.ArrayLike, limits: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """``coverage``, the share of counts within their limits, and ``interval_width``, how many whole counts those hold.

    Args:
        truth: counts [n].
        limits: smallest and largest count of each interval [n, 2].
        weights: see `discrimination`.
    """
    counts, (low, high) = np.asarray(truth, dtype=np.float64), np.asarray(limits, dtype=np.float64).T
    table = check_weights(weights, size=counts.size)
    total, width = table.sum(axis=1), high - low + 1.0
    held = np.where(np.isnan(width), np.nan, (low <= counts) & (counts <= high))
    # Sums of whole numbers: where all are held it is exactly 1.
    return {"coverage": table @ held / total, "interval_width": table @ width / total}


def measure_intervals(truth: np.ndarray, limits: tuple[np.ndarray, np.ndarray], groups: np.ndarray) -> Resampled:
    """`interval_metrics` with what their own intervals need; a row without limits makes them undefined."""
    return resample(truth, np.column_stack(limits), groups, metrics=interval_metrics)


def coverage_by_part(
    test: pd.DataFrame, predicted: np.ndarray, judged: Judged, *, edges: npt.ArrayLike
) -> dict[str, dict[str, float]]:
    """Coverage and width of one system for each kind of setting and for low, middle and high predictions.

    ``edges`` are the two between these. Part -> `Resampled.summary`; left out are parts without a row, and kinds
    if there are more than `MAX_KINDS`.
    """
    kinds, number = kinds_of(test["setting"]), np.searchsorted(np.asarray(edges), predicted)
    parts = {f"predicted_{name}": number == index for index, name in enumerate(("low", "middle", "high"))}
    names = sorted(set(kinds.tolist()))
    # A dot separates the parts of a metric's name.
    parts |= {f"kind_{(name or 'none').replace('.', '_')}": kinds == name for name in names if len(names) <= MAX_KINDS}
    truth, groups = test["counts"].to_numpy(), test["group"].to_numpy()
    return {
        name: measure_intervals(truth[rows], (judged.low[rows], judged.high[rows]), groups[rows]).summary()
        for name, rows in parts.items()
        if rows.any()
    }
