"""Which of several models is shipped: candidates against each other on the same rows, by group; meta-models by fold, too.

The scores of two folds come from two sets of networks, whose scales differ; a deployed ensemble is one set. So pairs of a
real and a forged image are counted within a fold. What one candidate has over another is judged by the interval of the
difference: both met the same images, and most of what moves the one moves the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from assay.metrics.binary import Resampled, WeightedMetrics, binary_metrics, resample
from assay.metrics.claims import outcome
from assay.metrics.discrimination import FloatArray, check_labels, check_weights, ranking_metrics
from assay.metrics.paired import gains_together

BEST_GAIN = "best_gain"


def fold_auc(base_fold: np.ndarray) -> WeightedMetrics:
    """The metric ``fold_auc`` for rows of these folds [n]: the share of pairs within a fold that stand in the right order.

    A pair is a real and a forged image of one fold; ties count half. It is the mean of the folds' AUC, weighted by their
    number of pairs (the AUC within strata of van Elteren 1960). NaN without a pair.
    """

    def metrics(
        labels: npt.ArrayLike, probs: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
    ) -> dict[str, FloatArray]:
        truth, scores = check_labels(labels), np.asarray(probs, dtype=np.float64)
        weights = check_weights(weights, size=truth.size)
        right, pairs = np.zeros((2, len(weights)))
        for fold in np.unique(base_fold):
            rows = base_fold == fold
            part = weights[:, rows]
            here = part[:, truth[rows] == 1].sum(axis=1) * part[:, truth[rows] == 0].sum(axis=1)
            alive = here > 0
            if alive.any():
                auc = ranking_metrics(truth[rows], scores[rows], weights=part[alive])["auc"]
                right[alive] += here[alive] * auc
                pairs[alive] += here[alive]
        return {"fold_auc": np.divide(right, pairs, out=np.full_like(right, np.nan), where=pairs > 0)}

    return metrics


def measure(labels: np.ndarray, probs: np.ndarray, groups: np.ndarray, base_fold: np.ndarray) -> Resampled:
    """All binary metrics and ``fold_auc`` of out-of-fold probabilities [n], with what they are without each group."""
    within = fold_auc(base_fold)

    def metrics(
        labels: npt.ArrayLike, probs: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
    ) -> dict[str, FloatArray]:
        return binary_metrics(labels, probs, weights=weights) | within(labels, probs, weights=weights)

    return resample(labels, probs, groups, metrics=metrics)


def choose(measured: Mapping[str, Resampled], *, metric: str, ship: str) -> tuple[str, dict[str, dict[str, float]]]:
    """Which candidate is shipped, and why.

    Args:
        measured: candidate -> its metrics, the simplest first; all on the same rows.
        metric: what they are judged by; higher is better.
        ship: ``auto``, or a candidate that is forced.

    Returns:
        With ``auto`` the simplest candidate that the best one is not shown to beat: the interval of the gain over it does
        not lie above 0. Too few groups for an interval show nothing. Then, for each candidate, ``best_gain`` with its
        limits: what the best has over it. All intervals hold together (`gains_together`), since the best was chosen by
        these rows.
    """
    best = max(measured, key=lambda name: measured[name].point[metric])
    together = gains_together({name: (measured[best], one, metric) for name, one in measured.items()})
    gains = {
        name: {f"{BEST_GAIN}{end}": together[f"{name}{end}"] for end in ("", "_low", "_high")} for name in measured
    }
    if ship != "auto":
        return ship, gains
    groups = {"n_groups": float(measured[best].n_groups)}
    beaten = {name: outcome(gains[name] | groups, BEST_GAIN) == "better" for name in gains}
    return next(name for name in measured if not beaten[name]), gains
