"""Every binary metric at once, with its group-bootstrap interval: what the evaluate stages publish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.metrics.calibration_error import expected_calibration_error, smooth_calibration_error
from assay.metrics.discrimination import FloatArray, probability_metrics, ranking_metrics, threshold_metrics
from assay.metrics.intervals import check_groups, group_bootstrap_weights, percentile_interval


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


@dataclass(frozen=True)
class Resampled:
    """Metrics of a sample of ``n`` rows in ``n_groups`` groups: ``point`` on all of it, ``draws`` [B] on its resamples.

    Two systems resampled with the same groups, number and seed met the same resamples: their draws may be subtracted.
    """

    n: int
    n_groups: int
    point: dict[str, float]
    draws: dict[str, FloatArray]

    def summary(self) -> dict[str, float]:
        """Flat dict: n, n_groups, then for each metric `name`, `name_low` and `name_high` (95 % percentile interval).

        A limit is NaN where fewer than half of the resamples define the metric. The ECE of a resample is biased
        upwards, so its interval may lie above the ECE itself: judge ECE by `calibration_test`.
        """
        summary: dict[str, float] = {"n": self.n, "n_groups": self.n_groups}
        for name, value in self.point.items():
            low, high = percentile_interval(self.draws[name])
            summary |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return summary


def resample(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    num_resamples: int,
    seed: int,
    metrics: WeightedMetrics = binary_metrics,
) -> Resampled:
    """Metrics on the whole sample and on resamples of its groups [n]: rows of one group are drawn together.

    `labels` and `probs` are what `metrics` takes, a function with the signature of `binary_metrics`. ValueError if an input
    is malformed.
    """
    codes = check_groups(groups, size=np.asarray(labels).shape[0])
    point = metrics(labels, probs)
    chunks = [
        metrics(labels, probs, weights=weights)
        for weights in group_bootstrap_weights(codes, num_resamples=num_resamples, seed=seed)
    ]
    draws = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in point}
    return Resampled(codes.size, int(codes.max()) + 1, {name: float(value[0]) for name, value in point.items()}, draws)


def summarise(
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    num_resamples: int,
    seed: int,
    metrics: WeightedMetrics = binary_metrics,
) -> dict[str, float]:
    """`Resampled.summary` of `resample`: each metric with its group-bootstrap 95 % percentile interval."""
    return resample(labels, probs, groups, num_resamples=num_resamples, seed=seed, metrics=metrics).summary()


def nulled(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same metrics with null in the place of NaN, an undefined metric: JSON can hold that."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in metrics.items()}


def flatten(reports: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """``{"test": {"auc": 0.9}}`` as ``{"test.auc": 0.9}``; an undefined metric becomes null."""
    return nulled({f"{system}.{name}": value for system, report in reports.items() for name, value in report.items()})
