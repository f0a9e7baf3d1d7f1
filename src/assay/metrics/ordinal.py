"""How well numbers and ordered classes are predicted: regression errors, rank agreement, ordinal classification.

Both metric functions take `weights` as `discrimination` does, return float64 [B], raise ValueError if an input is
malformed, and fit `binary.summarise`; give `ordinal_metrics` its `num_classes` with `functools.partial`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_size, check_values, check_weights

ERROR_NAMES = ("mse", "rmse", "mae", "r2", "spearman")
# Rows of the table of all pairs that are held at a time.
PAIR_BLOCK = 512


def _classes(values: npt.ArrayLike, *, name: str, num_classes: int) -> IntArray:
    """Return `values` as int64 [n]; ValueError unless they are 1-D, integer and in 0 .. num_classes - 1."""
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}; count every class the labels can take")
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be 1-D and non-empty, got shape {array.shape}; pass one class per sample")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got dtype {array.dtype}; round or take the argmax first")
    wrong = array[(array < 0) | (array >= num_classes)]
    if wrong.size:
        raise ValueError(f"{name} must lie in 0 .. {num_classes - 1}, got {wrong[0]}; code the classes from 0")
    return array.astype(np.int64)


def _tied_pairs(values: FloatArray, counts: IntArray) -> IntArray:
    """Pairs of equal values in each resample, int64 [B]; counts [B, n] are multiplicities."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0.0])
    sums = np.add.reduceat(counts[:, order], starts, axis=1)
    return (sums * (sums - 1) // 2).sum(axis=1)


def _kendall(targets: FloatArray, predictions: FloatArray, counts: IntArray) -> FloatArray:
    """Tau-b of each resample [B], the formula of scipy's ``kendalltau`` over exact whole numbers.

    Concordant minus discordant pairs are a quadratic form of the multiplicities: all resamples share one pass over the
    pairs. Blocks bound the memory.
    """
    excess = np.zeros(len(counts))
    weights = counts.astype(np.float32)
    for start in range(0, targets.size, PAIR_BLOCK):
        rows = slice(start, start + PAIR_BLOCK)
        signs = np.sign(targets[rows, None] - targets) * np.sign(predictions[rows, None] - predictions)
        # Whole numbers below 2**24 are exact in float32, and the sums over rows are taken in float64.
        excess += np.einsum("bi,bi->b", weights @ signs.T.astype(np.float32), weights[:, rows], dtype=np.float64)
    size = counts.sum(axis=1)
    pairs = size * (size - 1) // 2
    free = [np.sqrt((pairs - _tied_pairs(values, counts)).astype(np.float64)) for values in (targets, predictions)]
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.rint(excess / 2.0) / free[0] / free[1]
    return np.clip(tau, -1.0, 1.0)


def mid_ranks(values: FloatArray, counts: IntArray) -> FloatArray:
    """Mid-rank of each row in each resample, float64 [B, n]: what scipy's ``rankdata`` gives the written-out resample."""
    distinct, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    sums = np.add.reduceat(counts[:, order], np.searchsorted(inverse[order], np.arange(distinct.size)), axis=1)
    ranks = np.cumsum(sums, axis=1) - (sums - 1) / 2.0
    found: FloatArray = ranks[:, inverse]
    return found


def _regression_metrics(
    targets: FloatArray, predictions: FloatArray, ranks: tuple[FloatArray, FloatArray]
) -> tuple[float, ...]:
    """The metrics named in ERROR_NAMES, of one resample written out row by row; ``ranks`` of both."""
    errors = predictions - targets
    mse = float(np.mean(errors**2))
    variance = float(np.var(targets - targets[0]))  # the shift makes it exactly 0 for constant targets
    r2 = 1.0 - mse / variance if variance > 0.0 else math.nan
    spearman = math.nan
    if np.ptp(targets) > 0.0 and np.ptp(predictions) > 0.0:
        spearman = float(np.corrcoef(*ranks)[0, 1])
    return mse, math.sqrt(mse), float(np.mean(np.abs(errors))), r2, spearman


def regression_metrics(
    targets: npt.ArrayLike, predictions: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Errors and rank agreement of predicted numbers [n]; `weights` must be whole.

    - mse, rmse, mae: mean squared error, its root, and mean absolute error, in the unit of `targets`; lower is better.
    - r2: 1 - mse / variance of the targets; NaN where the targets are constant.
    - spearman: Pearson correlation of the mid-ranks (Spearman 1904), in [-1, 1].
    - kendall: tau-b, which corrects for ties on both sides (Kendall 1945), in [-1, 1].

    The last two are NaN where targets or predictions are constant.
    """
    targets = check_values(targets, name="targets")
    predictions = check_values(predictions, name="predictions", size=targets.size)
    weights = check_weights(weights, size=targets.size)
    counts = weights.astype(np.int64)
    if (counts != weights).any():
        raise ValueError(f"weights must be whole numbers, got {weights[counts != weights][0]}; pass multiplicities")
    ranked = mid_ranks(targets, counts), mid_ranks(predictions, counts)
    values = []
    for number, row in enumerate(counts):
        ranks = np.repeat(ranked[0][number], row), np.repeat(ranked[1][number], row)
        values.append(_regression_metrics(np.repeat(targets, row), np.repeat(predictions, row), ranks))
    found = dict(zip(ERROR_NAMES, np.array(values).T, strict=True))
    kendall = _kendall(targets, predictions, counts)
    return found | {"kendall": np.where(np.isnan(found["spearman"]), np.nan, kendall)}


def _cells(labels: npt.ArrayLike, predictions: npt.ArrayLike, *, num_classes: int) -> IntArray:
    """Index int64 [n] of each sample's cell in the flattened [C, C] confusion matrix; ValueError if malformed."""
    labels = _classes(labels, name="labels", num_classes=num_classes)
    predictions = _classes(predictions, name="predictions", num_classes=num_classes)
    check_size(predictions, name="predictions", size=labels.size)
    return num_classes * labels + predictions


def class_confusion(labels: npt.ArrayLike, predictions: npt.ArrayLike, *, num_classes: int) -> IntArray:
    """Counts int64 [C, C]: rows = truth, columns = prediction, for integer classes 0 .. C - 1."""
    cells = _cells(labels, predictions, num_classes=num_classes)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def ordinal_metrics(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, *, num_classes: int, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Agreement of predicted with true classes [n], integers 0 .. num_classes - 1 that have an order.

    - accuracy: share of exact hits.
    - macro_f1: mean of 2 TP / (2 TP + FP + FN) over the classes that the whole sample holds as label or prediction;
      0 for one of them that a resample lacks. Another set of classes in each resample would be another metric.
    - quadratic_kappa: 1 - observed / expected mean squared class distance (Cohen 1968), at most 1, 0 = chance. Distances
      are those of the class numbers, also across classes that do not occur. NaN where all labels and predictions are
      one class.
    - within_one: share of predictions at most one class off.
    """
    cells = _cells(labels, predictions, num_classes=num_classes)
    weights = check_weights(weights, size=cells.size)
    num_rows, num_cells = len(weights), num_classes**2
    index = cells + num_cells * np.arange(num_rows)[:, None]
    counts = np.bincount(index.ravel(), weights=weights.ravel(), minlength=num_rows * num_cells)
    matrices = counts.reshape(num_rows, num_classes, num_classes)
    total, true, called = matrices.sum(axis=(1, 2)), matrices.sum(axis=2), matrices.sum(axis=1)
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    present = np.bincount(np.r_[cells // num_classes, cells % num_classes], minlength=num_classes) > 0
    f1 = 2.0 * hits / np.where(true + called > 0.0, true + called, 1.0)
    distance = np.abs(np.subtract.outer(np.arange(num_classes), np.arange(num_classes)))
    observed = np.einsum("bij,ij->b", matrices, distance**2)
    expected = np.einsum("bi,bi->b", true @ distance**2, called) / total
    with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
        kappa = 1.0 - observed / expected
    return {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": f1.sum(axis=1) / present.sum(),
        "quadratic_kappa": kappa,
        "within_one": matrices[:, distance <= 1].sum(axis=1) / total,
    }
