"""Every binary metric at once, with its interval over groups: what the evaluate stages publish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.metrics.calibration_error import expected_calibration_error, smooth_calibration_error
from assay.metrics.discrimination import FloatArray, probability_metrics, ranking_metrics, threshold_metrics
from assay.metrics.intervals import (
    MIN_GROUPS,
    Scale,
    blocks_of,
    check_groups,
    degrees_of_freedom,
    jackknife_interval,
    left_out_weights,
)


class WeightedMetrics(Protocol):
    """A function of labels [n], predictions [n] and weights [B, n] (None = ones) that gives arrays [B]."""

    def __call__(
        self, labels: npt.ArrayLike, probs: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
    ) -> dict[str, FloatArray]: ...


def binary_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Ranking, threshold (at 0.5) and probability metrics, and ECE over 15 bins of equal width or mass, and smooth.

    Takes and returns what the functions of `discrimination` do: auc, ap, eer, tpr_at_fpr_1, tpr_at_fpr_5, accuracy,
    balanced_accuracy, f1, nll, brier, ece_width, ece_mass, ece_smooth.
    """
    return {
        **ranking_metrics(labels, probs, weights=weights),
        **threshold_metrics(labels, probs, weights=weights),
        **probability_metrics(labels, probs, weights=weights),
        "ece_width": expected_calibration_error(probs, labels, binning="width", weights=weights),
        "ece_mass": expected_calibration_error(probs, labels, binning="mass", weights=weights),
        "ece_smooth": smooth_calibration_error(probs, labels, weights=weights),
    }


# Metrics that are no shares of 0 to 1, by their scale. Their names may have a prefix (`width_macro_f1`).
SCALES: dict[str, Scale] = {
    **dict.fromkeys(("nll", "mse", "rmse", "mae", "temperature"), "positive"),
    **dict.fromkeys(("spearman", "kendall", "quadratic_kappa"), "correlation"),
    "r2": "difference",
}
# No interval that was tried covers the ECE: see `Resampled.summary`.
WITHOUT_INTERVAL = ("ece", "ece_width", "ece_mass", "ece_smooth", "ece_classwise")


@dataclass(frozen=True)
class Resampled:
    """Metrics of a sample of ``n`` rows in ``n_groups`` groups.

    Attributes:
        point: metric -> value on all rows.
        left_out: metric -> values [G] with one block of groups left out (`blocks_of`). Two systems measured on the same rows
            left out the same: their values may be subtracted.
        df: degrees of freedom of the blocks.
    """

    n: int
    n_groups: int
    df: float
    point: dict[str, float]
    left_out: dict[str, FloatArray]

    def interval(self, name: str) -> tuple[float, float]:
        """95 % interval of a metric, `jackknife_interval` on its scale."""
        if name in WITHOUT_INTERVAL:
            return math.nan, math.nan
        return jackknife_interval(self.point[name], self.left_out[name], df=self.df, scale=SCALES.get(name, "share"))

    def summary(self) -> dict[str, float]:
        """Flat dict: n, n_groups, then for each metric `name`, `name_low` and `name_high` (95 % interval).

        A limit is NaN where there are too few groups or the metric is undefined without one of them. The ECE has none: it
        can't be below 0 and is biased upwards, so that close to 0, where one would like it to be, no interval that was tried
        covers the true one; judge it by `calibration_test`.
        """
        summary: dict[str, float] = {"n": self.n, "n_groups": self.n_groups}
        for name, value in self.point.items():
            low, high = self.interval(name)
            summary |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return summary


def resample(
    labels: npt.ArrayLike, probs: npt.ArrayLike, groups: npt.ArrayLike, *, metrics: WeightedMetrics = binary_metrics
) -> Resampled:
    """Metrics on the whole sample and without each of its groups [n].

    `labels` and `probs` are what `metrics` takes, a function with the signature of `binary_metrics`. ValueError if an input
    is malformed.
    """
    codes = check_groups(groups, size=np.asarray(labels).shape[0])
    num_groups, point = int(codes.max()) + 1, metrics(labels, probs)
    left_out = {name: np.empty(0) for name in point}
    blocks = blocks_of(codes)
    if num_groups >= MIN_GROUPS:
        chunks = [metrics(labels, probs, weights=weights) for weights in left_out_weights(blocks)]
        left_out = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in point}
    values = {name: float(value[0]) for name, value in point.items()}
    return Resampled(codes.size, num_groups, degrees_of_freedom(blocks), values, left_out)


def summarise(
    labels: npt.ArrayLike, probs: npt.ArrayLike, groups: npt.ArrayLike, *, metrics: WeightedMetrics = binary_metrics
) -> dict[str, float]:
    """`Resampled.summary` of `resample`: each metric with its 95 % interval over groups."""
    return resample(labels, probs, groups, metrics=metrics).summary()


def nulled(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same metrics with null in the place of NaN, an undefined metric: JSON can hold that."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in metrics.items()}


def flatten(reports: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """``{"test": {"auc": 0.9}}`` as ``{"test.auc": 0.9}``; an undefined metric becomes null."""
    return nulled({f"{system}.{name}": value for system, report in reports.items() for name, value in report.items()})
