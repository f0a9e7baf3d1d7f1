"""How well scores separate forged (label 1, the positive class) from real (label 0).

Every metric takes `weights` [B, n]: row b counts how often each sample occurs in bootstrap resample b.
Sorting happens once and everything after it is vectorised over B. `weights=None` stands for a single row of
ones, so results always have shape [B].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

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
    """Return `values` as float64 [n], checked.

    Parameters
    ----------
    values : array-like [n]
    name : argument name used in messages.
    size : required length, None for any length above zero.
    unit : whether every value must lie in [0, 1].

    Raises
    ------
    ValueError
        Wrong shape or length, a value that is not finite, or one outside [0, 1] when `unit`.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be 1-D and non-empty, got shape {array.shape}; pass one value per sample")
    if size is not None and array.size != size:
        raise ValueError(f"{name} has {array.size} values but labels has {size}; align both on sample_id")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; drop or repair rows that are not finite")
    if unit and (array.min() < 0.0 or array.max() > 1.0):
        raise ValueError(
            f"{name} must lie in [0, 1], got [{array.min():g}, {array.max():g}]; apply a sigmoid to logits"
        )
    return array


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


def ranking_metrics(
    labels: npt.ArrayLike, scores: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """Threshold-free metrics of a ranking; higher score = more likely forged.

    Parameters
    ----------
    labels : int array [n], 1 = forged.
    scores : float array [n]; probabilities, logits or any monotone score. Tied scores form one threshold.
    weights : float array [B, n] of non-negative multiplicities, or None for one row of ones.

    Returns
    -------
    dict of float64 arrays [B], all shares in [0, 1]; NaN where a resample holds one class only:
        auc : area under the ROC by trapezoids = the Mann-Whitney statistic (Hanley and McNeil 1982).
        ap : average precision, sum_k (R_k - R_{k-1}) P_k, as scikit-learn defines it (no interpolation).
        eer : equal error rate, where FPR = 1 - TPR, linear interpolation between the corners of the ROC.
        tpr_at_fpr_1, tpr_at_fpr_5 : highest TPR over the thresholds whose FPR is <= 1 % (5 %). No
            interpolation: the value belongs to a threshold one can really set.

    Raises
    ------
    ValueError
        If an input is malformed.
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
    labels: npt.ArrayLike,
    probs: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    threshold: float = 0.5,
) -> dict[str, FloatArray]:
    """Metrics of the decision `probs >= threshold` (at the threshold counts as forged).

    Parameters
    ----------
    labels : int array [n], 1 = forged.
    probs : float array [n] in [0, 1].
    weights : float array [B, n] of non-negative multiplicities, or None for one row of ones.
    threshold : in [0, 1].

    Returns
    -------
    dict of float64 arrays [B], all shares in [0, 1]:
        accuracy : share of right decisions.
        balanced_accuracy : mean of TPR and TNR; NaN where a resample holds one class only.
        f1 : 2 TP / (2 TP + FP + FN); NaN where nothing is forged and nothing is called forged.

    Raises
    ------
    ValueError
        If an input is malformed.
    """
    labels = check_labels(labels)
    probs = check_values(probs, name="probs", size=labels.size, unit=True)
    weights = check_weights(weights, size=labels.size)
    truth, called = labels == 1, probs >= check_threshold(threshold)
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

    Parameters
    ----------
    labels : int array [n], 1 = forged.
    probs : float array [n] in [0, 1].
    weights : float array [B, n] of non-negative multiplicities, or None for one row of ones.

    Returns
    -------
    dict of float64 arrays [B]:
        nll : mean negative log-likelihood in nats. Probabilities are clipped to [eps, 1 - eps] with the
            float64 eps 2.2e-16, so that one saturated mistake costs 36 nats and not infinity.
        brier : mean squared distance between probability and label (Brier 1950), in [0, 1].

    Raises
    ------
    ValueError
        If an input is malformed.
    """
    labels = check_labels(labels)
    probs = check_values(probs, name="probs", size=labels.size, unit=True)
    weights = check_weights(weights, size=labels.size)
    eps = np.finfo(np.float64).eps
    clipped = np.clip(probs, eps, 1.0 - eps)
    nll = -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
    brier = (probs - labels) ** 2
    total = weights.sum(axis=1)
    return {"nll": weights @ nll / total, "brier": weights @ brier / total}


def confusion_matrix(labels: npt.ArrayLike, probs: npt.ArrayLike, *, threshold: float = 0.5) -> IntArray:
    """Counts int64 [2, 2] of the decision `probs >= threshold`: rows = truth, columns = decision, real first.

    Raises
    ------
    ValueError
        If an input is malformed.
    """
    labels = check_labels(labels)
    probs = check_values(probs, name="probs", size=labels.size, unit=True)
    called = (probs >= check_threshold(threshold)).astype(np.int64)
    return np.bincount(2 * labels + called, minlength=4).reshape(2, 2)


def check_threshold(threshold: float) -> float:
    """Return `threshold`; ValueError unless it lies in [0, 1]."""
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}; it is a probability, not a logit")
    return threshold
