"""Stage 1's logit as the meta-model's last column.

Stage 1 learned from every row of the train role, and the meta-model learns from out-of-fold rows of it: there, stage 1's
logit says more than it can say of a new image. Out-of-fold logits of stage 1 would take a training of it per fold. So the
column is added where stage 1 has seen nothing: on the calib role, whose purpose is the map from scores to probabilities.
The join is such a map, Platt's (1999) with two scores: ``logit(p) = stage1 * z1 + ensemble * z2 + intercept``. It holds the
ensemble alone (0, 1, 0) as a special case, and costs nothing where the ensemble is asked: stage 1 has answered by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from assay.metrics.binary import resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import ranking_metrics
from assay.metrics.paired import gain

# Below this many rows of either class three coefficients would be noise.
MIN_ROWS = 20
# Into how many parts the groups are split to see what the join is worth on groups that did not fit it.
FOLDS = 5


@dataclass(frozen=True)
class Join:
    """Coefficients of stage 1's and the ensemble's log-odds, and an intercept."""

    stage1: float = 0.0
    ensemble: float = 1.0
    intercept: float = 0.0

    def logits(self, stage1: np.ndarray, ensemble: np.ndarray) -> np.ndarray:
        """Log-odds of forged [n] from those of stage 1 (before its temperature) and of the ensemble, each [n]."""
        return self.stage1 * stage1 + self.ensemble * ensemble + self.intercept


def _classifier() -> LogisticRegression:
    # Hardly regularised: three coefficients need no help.
    return LogisticRegression(C=100.0, max_iter=1000)


def enough(labels: np.ndarray) -> bool:
    """Whether labels 0 or 1 [n] hold `MIN_ROWS` of both classes."""
    return bool(min((labels == 0).sum(), (labels == 1).sum()) >= MIN_ROWS)


def fit_join(stage1: np.ndarray, ensemble: np.ndarray, labels: np.ndarray) -> Join:
    """Fit the join on log-odds [n] and labels 0 or 1 [n] of rows that neither level learned from.

    With fewer than `MIN_ROWS` of a class the ensemble stays alone.
    """
    if not enough(labels):
        print(f"{len(labels)} rows of calib are too few to join stage 1 to the ensemble, which stays alone", flush=True)
        return Join()
    fitted = _classifier().fit(np.column_stack([stage1, ensemble]), labels)
    one, two = (float(value) for value in fitted.coef_[0])
    return Join(one, two, float(fitted.intercept_[0]))


def held_out_join(
    stage1: np.ndarray, ensemble: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> np.ndarray | None:
    """Log-odds [n] of joins that were fitted without a row's group; None with too few rows, or groups of a class."""
    if not enough(labels):
        return None
    fewest = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    if fewest < 2:
        return None
    splitter = StratifiedGroupKFold(min(FOLDS, fewest))
    columns = np.column_stack([stage1, ensemble])
    found = cross_val_predict(_classifier(), columns, labels, groups=groups, cv=splitter, method="decision_function")
    return np.asarray(found, dtype=np.float64)


def join_reports(
    stage1: np.ndarray, ensemble: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, float]]:
    """Ranking metrics on calib of ``calib.stage1``, ``calib.ensemble`` (alone) and ``calib.joined`` (on held-out groups).

    The last has ``auc_gain_stage1`` and ``auc_gain_ensemble``, what it has over each alone; it is missing where
    `held_out_join` gives nothing.
    """
    scores = {"stage1": stage1, "ensemble": ensemble}
    joined = held_out_join(stage1, ensemble, labels, groups)
    if joined is not None:
        scores["joined"] = joined
    found = {name: resample(labels, values, groups, metrics=ranking_metrics) for name, values in scores.items()}
    reports = {f"calib.{name}": one.summary() for name, one in found.items()}
    if joined is not None:
        for name in ("stage1", "ensemble"):
            reports["calib.joined"] |= gain(found["joined"], found[name], "auc", key=f"auc_gain_{name}")
    return reports


def join_words(reports: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What `join_reports` says of the join's gains, a sentence each."""
    found = reports.get("calib.joined", {})
    ours, words = "Stage 1 joined with the ensemble, on held-out groups of calib,", {"stage1": "stage 1 alone"}
    return [
        claim(found, key, ours=ours, theirs=words.get(name, "the ensemble alone"), metric="AUC", one_training=True)
        for name in ("stage1", "ensemble")
        if (key := f"auc_gain_{name}") in found
    ]
