"""Several classifiers into one: log-linear pooling, its weights fitted on a role of their own.

p(class) is in proportion to the product of the members' probabilities, each raised to a weight (Genest and Zidek 1986,
"Combining probability distributions"; Heskes 1998 calls it a logarithmic opinion pool).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax


def pool(log_probs: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Pooled log-probabilities float64 [n, num_classes] of members' ``log_probs``, each [n, num_classes]."""
    total = sum(weight * member for weight, member in zip(weights, log_probs, strict=True))
    pooled: np.ndarray = log_softmax(np.asarray(total, dtype=np.float64), axis=1)
    return pooled


def fit_weights(log_probs: Sequence[np.ndarray], labels: np.ndarray) -> list[float]:
    """Weights >= 0 of the members that minimise the negative log-likelihood of ``labels`` int64 [n] (convex)."""
    rows = np.arange(len(labels))

    def loss(weights: np.ndarray) -> float:
        return float(-pool(log_probs, list(weights))[rows, labels].mean())

    start = np.full(len(log_probs), 1.0 / len(log_probs))
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0.0, None)] * len(log_probs))
    # Rounded, so that the last digits of the search do not reach what is saved.
    return [round(float(weight), 4) for weight in found.x]
