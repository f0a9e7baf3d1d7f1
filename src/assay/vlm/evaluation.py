"""What follows from the predictions of the vlm line: figures of high risk, spread over runs, and whether fusion pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from assay.metrics.binary import Resampled, WeightedMetrics
from assay.metrics.discrimination import FloatArray, check_weights
from assay.metrics.multiclass import multiclass_metrics, ratio
from assay.metrics.paired import gain, gain_text, pays, verdict
from assay.report.tables import confident_mistakes, interval_text


def risk_metrics(
    labels: npt.ArrayLike, probs: npt.ArrayLike, *, high: int, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """`multiclass_metrics`, and for class ``high``: precision and recall (0 where undefined) and the share of rows on
    which "high or not" is wrong.

    Args:
        labels, probs, weights: as there.
        high: index of the class.

    Returns:
        float64 arrays [B]: those of `multiclass_metrics`, high_precision, high_recall, high_error.
    """
    figures = multiclass_metrics(labels, probs, weights=weights)
    truth, named = np.asarray(labels) == high, np.asarray(probs).argmax(axis=1) == high
    rows = check_weights(weights, size=len(truth))
    hits = rows @ (truth & named)
    figures |= {"high_precision": ratio(hits, rows @ named), "high_recall": ratio(hits, rows @ truth)}
    figures["high_error"] = rows @ (truth != named) / rows.sum(axis=1)
    return figures


def metrics_for(high: int) -> WeightedMetrics:
    """`risk_metrics` of one class, for `assay.metrics.binary.resample`."""
    return partial(risk_metrics, high=high)


def spread(runs: Sequence[np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """How far runs that differ in the order of the data differ in what they say.

    Args:
        runs: probabilities [n, C] of each.
        labels: int64 [n].

    Returns:
        runs; accuracy_min, accuracy_max; confidence_mean and confidence_p95, of the largest minus the smallest
        probability that the runs give to the class the first of them names; changed, the share of rows on which two
        runs name different classes.
    """
    stacked = np.stack(runs)
    named = stacked.argmax(axis=2)
    accuracy = (named == labels).mean(axis=1)
    confidence = np.take_along_axis(stacked, named[:1, :, None], axis=2)[..., 0]
    width = confidence.max(axis=0) - confidence.min(axis=0)
    return {
        "runs": float(len(runs)),
        "accuracy_min": float(accuracy.min()),
        "accuracy_max": float(accuracy.max()),
        "confidence_mean": float(width.mean()),
        "confidence_p95": float(np.quantile(width, 0.95)),
        "changed": float((named != named[0]).any(axis=0).mean()),
    }


def gains(measured: Mapping[str, Resampled]) -> dict[str, dict[str, float]]:
    """What each part gains in accuracy, and fusion in the figures of high risk; each with its paired interval."""
    found: dict[str, dict[str, float]] = {"base": {}, "fused": {}}
    for other, key in (
        ("majority", "accuracy_gain"),
        ("no_augmentation", "accuracy_gain_augmentation"),
        ("no_filter", "accuracy_gain_filter"),
    ):
        if other in measured:
            found["base"] |= gain(measured["base"], measured[other], "accuracy", key=key)
    for name in ("accuracy", "nll", "high_recall", "high_precision", "high_error"):
        found["fused"] |= gain(measured["fused"], measured["base"], name, key=f"{name}_gain")
    return found


def mistakes(rows: pd.DataFrame, probs: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Wrong answers: sample_id, name, picture, true, predicted, confidence; the most confident first."""
    return confident_mistakes(rows[["sample_id", "name", "picture"]], labels, probs, names)


def conclusion(reports: Mapping[str, Mapping[str, float]], *, strength: float) -> list[str]:
    """What the figures say of each claim, in words."""
    base, fused, majority = reports["base"], reports["fused"], reports["majority"]
    lines = [
        f"The first model: accuracy {interval_text(base, 'accuracy')} (n {base['n']:.0f}), {verdict(base, 'accuracy_gain')} "
        f"the largest class ({majority['accuracy']:.3f})."
    ]
    if strength == 0:
        lines.append("Fusion does not pay here: on tune no strength of the correction gains, so it is the identity.")
    else:
        change = fused["high_error"] / base["high_error"] - 1 if base["high_error"] else 0.0
        lines.append(
            f"With the correction (strength {strength:.2f}): accuracy {interval_text(fused, 'accuracy')}; high risk: recall "
            f"{fused['high_recall']:.3f} against {base['high_recall']:.3f} ({gain_text(fused, 'high_recall_gain')}), "
            f"precision {fused['high_precision']:.3f} against {base['high_precision']:.3f}, errors {change:+.0%} "
            f"({gain_text(fused, 'high_error_gain')} of the share)."
        )
        worse = fused["high_recall"] < base["high_recall"]
        shown = fused["high_error_gain_high"] < 0
        lines.append(
            "Fusion does not pay here: it finds less of the high risk."
            if worse
            else "Fusion pays here."
            if shown
            else "Fusion is not shown to pay here: the interval of its gain holds 0."
        )
    for key, what in (("accuracy_gain_augmentation", "Augmentation"), ("accuracy_gain_filter", "The filter")):
        if key in base:
            lines.append(f"{what} {pays(base, key)} ({gain_text(base, key)}).")
    return lines


def as_rows(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Columns sample_id, name, picture, group, label of conversations, in their order."""
    table = pd.DataFrame([{key: record[key] for key in ("sample_id", "name", "group", "label")} for record in records])
    return table.assign(picture=[record["images"][0] for record in records])
