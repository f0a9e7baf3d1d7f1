"""Platt scaling: probs = sigmoid(slope * logits + bias) (Platt 1999), by unregularised maximum likelihood.

The bias term moves the whole scale, so unlike a temperature it can repair a prior shift; with slope > 0 AUC
stays. Targets are the plain labels 0 and 1. Platt's smoothed targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) are
not used: they guard small calibration sets at the price of no longer minimising the NLL that is reported.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from assay.calibration.temperature import check_logits, negative_log_likelihood
from assay.metrics.discrimination import FloatArray, IntArray


@dataclass(frozen=True)
class PlattFit:
    """Slope (per logit) and bias (in logits), with the NLL in nats per row on the fitting data."""

    slope: float
    bias: float
    nll: float


def fit_platt(logits: npt.ArrayLike, labels: npt.ArrayLike) -> PlattFit:
    """Fit slope and bias on held-out rows in float64 (BFGS with the exact gradient; the loss is convex).

    Takes logits [n] (log-odds of label 1, not probabilities) and labels int [n] with both classes. When a threshold on the
    logits separates the classes there is no finite optimum: a warning says so and the slope is merely where the search
    stopped. Raises ValueError if an input is malformed, RuntimeError if the search ends away from a stationary point.
    """
    scores, truth = check_logits(logits, labels)
    if _separable(scores, truth):
        warnings.warn(
            "a threshold on the logits separates the classes, so the Platt slope has no finite optimum; "
            "use more or harder rows",
            UserWarning,
            stacklevel=2,
        )
    # On standardised logits both parameters are of order 1 whatever the scale of the network.
    centre, scale = scores.mean(), scores.std() or 1.0
    standard = (scores - centre) / scale

    def loss_and_gradient(parameters: FloatArray) -> tuple[float, FloatArray]:
        shifted = parameters[0] * standard + parameters[1]
        residual = expit(shifted) - truth
        gradient = np.array([(residual * standard).mean(), residual.mean()])
        return negative_log_likelihood(shifted, truth), gradient

    start = np.array([0.0, logit(truth.mean())])  # the best constant; stays put when all logits are equal
    result = minimize(loss_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    # BFGS also reports failure when rounding alone stops it at the optimum, so judge by the gradient.
    if not np.abs(result.jac).max() < 1e-6:
        raise RuntimeError(f"Platt scaling did not converge: {result.message}; look for extreme logits")
    slope = float(result.x[0] / scale)
    bias = float(result.x[1] - slope * centre)
    return PlattFit(slope=slope, bias=bias, nll=negative_log_likelihood(slope * scores + bias, truth))


def _separable(logits: FloatArray, labels: IntArray) -> bool:
    """Whether some threshold splits the classes (touching at it counts, unless all logits are equal)."""
    real, forged = logits[labels == 0], logits[labels == 1]
    apart = real.max() <= forged.min() or forged.max() <= real.min()
    return bool(apart and logits.min() < logits.max())


def apply_platt(logits: npt.ArrayLike, fit: PlattFit) -> FloatArray:
    """Probabilities sigmoid(slope * logits + bias), float64, of the shape of `logits`."""
    return np.asarray(expit(fit.slope * np.asarray(logits, dtype=np.float64) + fit.bias))
