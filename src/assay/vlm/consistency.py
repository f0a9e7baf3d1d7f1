"""Which augmented images still fit their label, by a model's likelihood of the label.

A class's threshold is a low quantile of that likelihood over unaugmented images of the class that the model was not
trained on: an augmented image below it looks less like its class than nearly all real ones do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def label_scores(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log-probability float64 [n] of each row's own label int64 [n]; ``log_probs`` is [n, num_classes]."""
    return log_probs[np.arange(len(labels)), labels]


def fit_thresholds(log_probs: np.ndarray, labels: np.ndarray, *, quantile: float) -> np.ndarray:
    """Threshold float64 [num_classes] per class: the ``quantile`` of its scores (linear, Hyndman and Fan 1996 type 7).

    Raises:
        ValueError: a class has no row to fit it on.
    """
    scores = label_scores(log_probs, labels)
    classes = range(log_probs.shape[1])
    if lacking := sorted(set(classes) - set(labels.tolist())):
        raise ValueError(f"no unaugmented val image of class(es) {lacking} to set the filter's threshold by")
    return np.array([np.quantile(scores[labels == number], quantile) for number in classes])


def is_consistent(log_probs: np.ndarray, labels: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Bool [n]: the score of the row's label is at or above the threshold of its class."""
    return label_scores(log_probs, labels) >= thresholds[labels]


def dropped_table(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Columns class, transform, n, dropped, share: what the filter took out, of ``frame`` with label, transform, kept."""
    groups = frame.groupby(["label", "transform"])["kept"]
    table = groups.agg(n="size", dropped=lambda kept: int((~kept).sum())).reset_index()
    table["share"] = table["dropped"] / table["n"]
    table.insert(0, "class", [names[label] for label in table.pop("label")])
    return table
