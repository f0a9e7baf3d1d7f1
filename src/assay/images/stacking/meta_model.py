"""The shipped meta-model: one of the candidates, as numbers that a file can hold and that run nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from assay.images.stacking.trees import Trees

EPSILON = 1e-7
# From the simplest to the most complex; the bake-off ships the first that the best is not shown to beat.
CANDIDATES = ("single", "mean_logit", "logistic", "lightgbm_logits", "lightgbm")


def expert_logits(features: np.ndarray, num_experts: int) -> np.ndarray:
    """The experts' logits float64 [n, num_experts]: the last columns of X_meta."""
    return np.asarray(features[:, -num_experts:], dtype=np.float64)


@dataclass(frozen=True)
class MetaModel:
    """The shipped meta-model: X_meta [n, f] -> probability of forged [n]. Holds numbers only.

    ``kind`` is one of ``CANDIDATES``. ``expert``: position of the single expert. ``coefficients``, ``intercept``: of the
    logistic regression on the experts' logits. ``trees``: LightGBM's.
    """

    kind: str
    experts: tuple[str, ...]
    expert: int = 0
    coefficients: tuple[float, ...] = ()
    intercept: float = 0.0
    trees: Trees | None = None

    def probs(self, features: np.ndarray) -> np.ndarray:
        """Probability of forged, float64 [n]."""
        logits = expert_logits(features, len(self.experts))
        if self.trees is not None:
            return self.trees.probs(features if self.kind == "lightgbm" else logits)
        if self.kind == "single":
            return expit(logits[:, self.expert])
        if self.kind == "mean_logit":
            return expit(logits.mean(axis=1))
        assert self.kind == "logistic", self.kind
        return expit(logits @ np.array(self.coefficients) + self.intercept)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Log-odds of forged, float64 [n], finite."""
        return logit(np.clip(self.probs(features), EPSILON, 1 - EPSILON))

    def reduced(self) -> MetaModel:
        """The same model without experts that it does not look at (``single`` needs one)."""
        if self.kind != "single":
            return self
        return MetaModel(self.kind, (self.experts[self.expert],))
