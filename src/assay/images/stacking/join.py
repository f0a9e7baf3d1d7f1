"""Stage 1's logit as the meta-model's last column.

Stage 1 learned from every row of the train role, and the meta-model learns from out-of-fold rows of it: there, stage 1's
logit says more than it can say of a new image. Out-of-fold logits of stage 1 would take a training of it per fold. So the
column is added where stage 1 has seen nothing: on the calib role, whose purpose is the map from scores to probabilities.
The join is such a map, Platt's (1999) with two scores: ``logit(p) = first * z1 + second * z2 + intercept``. It holds the
ensemble alone (0, 1, 0) as a special case, and costs nothing where the ensemble is asked: stage 1 has answered by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

# Below this many rows of either class three coefficients would be noise.
MIN_ROWS = 20


@dataclass(frozen=True)
class Join:
    """Coefficients of the log-odds of two networks (stage 1 and the ensemble, say), and an intercept."""

    first: float = 0.0
    second: float = 1.0
    intercept: float = 0.0

    def logits(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Log-odds of forged [n] from those of both networks, each [n] and before its temperature."""
        return self.first * first + self.second * second + self.intercept


def join_classifier() -> LogisticRegression:
    """The regression behind `fit_join`, hardly regularised: three coefficients need no help."""
    return LogisticRegression(C=100.0, max_iter=1000)


def enough(labels: np.ndarray) -> bool:
    """Whether labels 0 or 1 [n] hold `MIN_ROWS` of both classes."""
    return bool(min((labels == 0).sum(), (labels == 1).sum()) >= MIN_ROWS)


def fit_join(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> Join:
    """Fit the join on log-odds [n] and labels 0 or 1 [n] of rows that neither level learned from.

    With fewer than `MIN_ROWS` of a class the second stays alone.
    """
    if not enough(labels):
        print(f"{len(labels)} rows of calib are too few to join stage 1 to the ensemble, which stays alone", flush=True)
        return Join()
    fitted = join_classifier().fit(np.column_stack([first, second]), labels)
    one, two = (float(value) for value in fitted.coef_[0])
    return Join(one, two, float(fitted.intercept_[0]))
