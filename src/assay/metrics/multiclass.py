"""Metrics of a classifier with any number of classes, on the whole sample or with weights for its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from assay.metrics.calibration_error import (
    CalibrationTest,
    calibration_test,
    expected_calibration_error,
    reliability_table,
    smooth_calibration_error,
)
from assay.metrics.discrimination import FloatArray, IntArray, check_weights, ranking_metrics

if TYPE_CHECKING:
    import pandas as pd


def check_probs(labels: npt.ArrayLike, probs: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Labels int64 [n] and probabilities float64 [n, C].

    ValueError if sizes differ, a label is no class, or a row of probabilities does not sum to 1.
    """
    truth, values = np.asarray(labels), np.asarray(probs, dtype=np.float64)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not len(truth):
        raise ValueError(f"probs must be [n, C] and labels [n] with n > 0, got {values.shape} and {truth.shape}")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= values.shape[1]:
        raise ValueError(f"labels must be whole numbers from 0 to {values.shape[1] - 1}")
    if not (values >= 0).all() or not np.allclose(values.sum(axis=1), 1, atol=1e-5):
        raise ValueError("each row of probs must be >= 0 and sum to 1")
    return truth.astype(np.int64), values


def multiclass_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Accuracy, precision, recall, F1, AUC, NLL and three ECEs.

    Precision, recall and F1 are those of class 1 where there are two classes, else their unweighted means over the
    classes (scikit-learn's ``binary`` and ``macro``; 0 where undefined). AUC likewise: of class 1, or the mean of each
    class against the rest. ``ece`` is over the confidence of the predicted class, 15 bins of equal width (Guo et al.
    2017, "On Calibration of Modern Neural Networks"), ``ece_smooth`` the smooth one of the same. ``ece_classwise`` is the
    mean over the classes of the ECE of each class against the rest (Kull et al. 2019, "Beyond temperature scaling",
    equation 3): it sees a class that is promised too often even where the predicted class's confidence is right on average.

    Takes labels int [n] from 0, probs float [n, C] whose rows sum to 1, and weights as in `discrimination`; returns
    float64 [B] each. ValueError if an input is malformed.
    """
    truth, values = check_probs(labels, probs)
    rows, num_classes = check_weights(weights, size=len(truth)), values.shape[1]
    predicted = values.argmax(axis=1)
    correct = predicted == truth
    parts: dict[str, list[FloatArray]] = {"precision": [], "recall": [], "f1": [], "auc": []}
    for number in [1] if num_classes == 2 else range(num_classes):
        member = truth == number
        hits, named, there = rows @ (correct & member), rows @ (predicted == number), rows @ member
        parts["precision"].append(ratio(hits, named))
        parts["recall"].append(ratio(hits, there))
        parts["f1"].append(ratio(2 * hits, named + there))
        parts["auc"].append(ranking_metrics(member.astype(np.int64), values[:, number], weights=rows)["auc"])
    total = rows.sum(axis=1)
    surprise = -np.log(np.clip(values[np.arange(len(truth)), truth], np.finfo(np.float64).tiny, 1))
    return {
        "accuracy": rows @ correct / total,
        **{name: np.mean(values_of, axis=0) for name, values_of in parts.items()},
        "nll": rows @ surprise / total,
        "ece": expected_calibration_error(*_confidence(truth, values), weights=rows),
        "ece_smooth": smooth_calibration_error(*_confidence(truth, values), weights=rows),
        "ece_classwise": classwise_calibration_error(truth, values, weights=rows).mean(axis=0),
    }


def classwise_calibration_error(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """ECE of each class against the rest, 15 bins of equal width, float64 [C, B]; arguments as in `multiclass_metrics`."""
    truth, values = check_probs(labels, probs)
    by_class = [
        expected_calibration_error(np.clip(values[:, number], 0, 1), truth == number, weights=weights)
        for number in range(values.shape[1])
    ]
    return np.stack(by_class)


def confidence_test(
    labels: npt.ArrayLike, probs: npt.ArrayLike, groups: npt.ArrayLike, *, seed: int
) -> CalibrationTest:
    """`calibration_test` of the confidence in the predicted class: is ``ece`` more than chance?"""
    return calibration_test(*_confidence(*check_probs(labels, probs)), groups, seed=seed)


def confidence_table(labels: npt.ArrayLike, probs: npt.ArrayLike) -> pd.DataFrame:
    """`reliability_table` of the confidence in the predicted class: is it right? The bins behind ``ece``.

    Parameters and errors are those of `multiclass_metrics`.
    """
    return reliability_table(*_confidence(*check_probs(labels, probs)))


def _confidence(truth: IntArray, probs: FloatArray) -> tuple[FloatArray, IntArray]:
    """Probability of the predicted class, and whether it is right (0 or 1), each [n]."""
    right = probs.argmax(axis=1) == truth
    return np.clip(probs.max(axis=1), 0, 1), right.astype(np.int64)


def ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """above / below, 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)
