"""What stage 1's logit is worth beside the ensemble's, on groups of calib that did not fit the join."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from assay.images.stacking.join import enough, join_classifier
from assay.metrics.binary import resample
from assay.metrics.claims import claim
from assay.metrics.discrimination import ranking_metrics
from assay.metrics.paired import gain

# Into how many parts the groups are split.
FOLDS = 5


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
    found = cross_val_predict(
        join_classifier(), columns, labels, groups=groups, cv=splitter, method="decision_function"
    )
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
