"""How well scores separate forged (label 1, the positive class) from real (label 0).

Every metric takes labels int [n] of 0 and 1, scores or probs float [n], and `weights` float [B, n]: row b counts how
much each sample counts in resample b, and `None` stands for a single row of ones. Sorting happens once and
everything after it is vectorised over B. Results are float64 [B]. All raise ValueError if an input is malformed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

THRESHOLD = 0.5
FPR_LIMITS = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_5": 0.05}


def check_labels(labels: npt.ArrayLike) -> IntArray:
    """Return `labels` as int64 [n]; ValueError unless 1-D, non-empty and all 0 or 1."""
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"labels must be 1-D and non-empty, got shape {array.shape}; pass one label per sample")
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"labels must be 0 (real) or 1 (forged), got {wrong[0]!r}; map the classes first")
    return array.astype(np.int64)


def check_values(values: npt.ArrayLike, *, name: str, size: int | None = None, unit: bool = False) -> FloatArray:
    """Return `values` as float64 [n].

    ValueError unless they are 1-D, finite, `size` in number (None: any above zero) and, if `unit`, within [0, 1].
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be 1-D and non-empty, got shape {array.shape}; pass one value per sample")
    check_size(array, name=name, size=size)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; drop or repair rows that are not finite")
    if unit and (array.min() < 0.0 or array.max() > 1.0):
        raise ValueError(
            f"{name} must lie in [0, 1], got [{array.min():g}, {array.max():g}]; apply a sigmoid to logits"
        )
    return array


def check_size(array: npt.NDArray, *, name: str, size: int | None) -> None:
    """ValueError unless `array` has `size` values; None allows any number."""
    if size is not None and array.size != size:
        raise ValueError(f"{name} has {array.size} values for {size} rows; align all inputs on sample_id")


def check_weights(weights: npt.ArrayLike | None, *, size: int) -> FloatArray:
    """Return `weights` as float64 [B, n] (None = one row of ones); ValueError if negative or all zero."""
    if weights is None:
        return np.ones((1, size))
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != size:
        raise ValueError(f"weights must have shape [B, {size}], got {array.shape}; use weights[None, :] for one row")
    if not array.size:
        raise ValueError(f"weights must have at least one row, got {array.shape}; pass None for no weighting")
    # min() lets NaN through as NaN, which fails the comparison; sum() catches infinities.
    if not (array.min() >= 0.0 and np.isfinite(array.sum()) and (array.sum(axis=1) > 0.0).all()):
        raise ValueError("weights must be finite, non-negative and not all zero in any row; pass multiplicities")
    return array


def _tied_counts(labels: IntArray, scores: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of positives and of negatives per distinct score, descending: two arrays [B, num_distinct]."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sorted_weights = weights[:, order]
    total = np.add.reduceat(sorted_weights, starts, axis=1)
    sorted_weights *= labels[order]  # our own copy: fancy indexing never returns a view
    positive = np.add.reduceat(sorted_weights, starts, axis=1)
    return positive, total - positive


def _equal_error_rate(tpr: FloatArray, fpr: FloatArray) -> FloatArray:
    """FPR where the ROC polygon [B, t + 1] crosses TPR = 1 - FPR, linear between its corners; [B]."""
    excess = tpr + fpr - 1.0  # from -1 at (0, 0) to +1 at (1, 1), never falling
    after = np.maximum(np.argmax(excess >= 0.0, axis=1), 1)
    rows = np.arange(len(excess))
    low, high = excess[rows, after - 1], excess[rows, after]
    share = -low / np.where(high > low, high - low, np.nan)
    return fpr[rows, after - 1] + share * (fpr[rows, after] - fpr[rows, after - 1])


def check_sample(
    labels: npt.ArrayLike, probs: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Labels int64 [n], probs float64 [n] in [0, 1] and weights float64 [B, n]; ValueError if malformed."""
    truth = check_labels(labels)
    return truth, check_values(probs, name="probs", size=truth.size, unit=True), check_weights(weights, size=truth.size)


def ranking_metrics(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Threshold-free metrics of a ranking; higher score = more likely forged.

    Scores may be probabilities, logits or any monotone score; tied scores form one threshold. All metrics are shares in
    [0, 1], and NaN where a resample holds one class only:

    - auc: area under the ROC by trapezoids = the Mann-Whitney statistic (Hanley and McNeil 1982).
    - ap: average precision, sum_k (R_k - R_{k-1}) P_k, as scikit-learn defines it (no interpolation).
    - eer: equal error rate, where FPR = 1 - TPR, linear interpolation between the corners of the ROC.
    - tpr_at_fpr_1, tpr_at_fpr_5: highest TPR over the thresholds whose FPR is <= 1 % (5 %). No interpolation: the value
      belongs to a threshold one can really set.
    """
    labels = check_labels(labels)
    scores = check_values(scores, name="scores", size=labels.size)
    weights = check_weights(weights, size=labels.size)
    positive, negative = _tied_counts(labels, scores, weights)
    num_positive, num_negative = positive.sum(axis=1), negative.sum(axis=1)
    valid = (num_positive > 0.0) & (num_negative > 0.0)
    # A divisor of 1 keeps one-class rows quiet; they become NaN at the end.
    per_positive = np.where(valid, num_positive, 1.0)[:, None]
    per_negative = np.where(valid, num_negative, 1.0)[:, None]

    true_pos, false_pos = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    chosen = true_pos + false_pos
    precision = np.divide(true_pos, chosen, out=np.zeros_like(chosen), where=chosen > 0.0)
    area = np.einsum("bt,bt->b", negative, true_pos - 0.5 * positive)
    values = {
        "auc": area / (per_positive * per_negative)[:, 0],
        "ap": np.einsum("bt,bt->b", positive, precision) / per_positive[:, 0],
    }
    tpr = np.pad(true_pos / per_positive, ((0, 0), (1, 0)))
    fpr = np.pad(false_pos / per_negative, ((0, 0), (1, 0)))
    values["eer"] = _equal_error_rate(tpr, fpr)
    for name, limit in FPR_LIMITS.items():
        values[name] = np.where(fpr <= limit, tpr, 0.0).max(axis=1)
    return {name: np.where(valid, value, np.nan) for name, value in values.items()}


def threshold_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Metrics of the decision `probs >= 0.5`, all shares in [0, 1].

    - accuracy: share of right decisions.
    - balanced_accuracy: mean of TPR and TNR; NaN where a resample holds one class only.
    - f1: 2 TP / (2 TP + FP + FN); NaN where nothing is forged and nothing is called forged.
    """
    labels, probs, weights = check_sample(labels, probs, weights)
    truth, called = labels == 1, probs >= THRESHOLD
    cells = np.stack([~truth & ~called, ~truth & called, truth & ~called, truth & called], axis=1)
    true_neg, false_pos, false_neg, true_pos = (weights @ cells.astype(np.float64)).T
    with np.errstate(invalid="ignore"):  # 0 / 0 is the documented NaN
        recall = true_pos / (true_pos + false_neg)
        specificity = true_neg / (true_neg + false_pos)
        f1 = 2.0 * true_pos / (2.0 * true_pos + false_pos + false_neg)
    accuracy = (true_pos + true_neg) / weights.sum(axis=1)
    return {"accuracy": accuracy, "balanced_accuracy": 0.5 * (recall + specificity), "f1": f1}


def probability_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Proper scores of the probabilities themselves; lower is better.

    - nll: mean negative log-likelihood in nats. Probabilities are clipped to [eps, 1 - eps] with the float64 eps
      2.2e-16, so that one saturated mistake costs 36 nats and not infinity.
    - brier: mean squared distance between probability and label (Brier 1950), in [0, 1].
    """
    labels, probs, weights = check_sample(labels, probs, weights)
    eps = np.finfo(np.float64).eps
    clipped = np.clip(probs, eps, 1.0 - eps)
    nll = -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
    brier = (probs - labels) ** 2
    total = weights.sum(axis=1)
    return {"nll": weights @ nll / total, "brier": weights @ brier / total}


def confusion_matrix(labels: npt.ArrayLike, probs: npt.ArrayLike) -> IntArray:
    """Counts int64 [2, 2] of the decision `probs >= 0.5`: rows = truth, columns = decision, real first."""
    labels, probs, _ = check_sample(labels, probs, None)
    called = (probs >= THRESHOLD).astype(np.int64)
    return np.bincount(2 * labels + called, minlength=4).reshape(2, 2)
