"""Temperature scaling: one positive number T, probs = sigmoid(logits / T) (Guo et al. 2017, equation 9).

Why it helps: a network trained on cross-entropy goes on pushing its logits apart long after its decisions are right, so
its probabilities are too extreme. Dividing by T > 1 undoes exactly that; T < 1 sharpens a timid network.

What it cannot do: logits keep their order and their sign, so AUC and the confusion matrix at 0.5 stay. The logit 0 keeps
its probability 0.5, so no prior shift is repaired (the bias term in `platt` does that), and no bias between groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from assay.calibration.scaling import LOG_BOUNDS, fit_log_temperatures, warn_at_bound
from assay.metrics.binary import summarise
from assay.metrics.calibration_error import expected_calibration_error
from assay.metrics.discrimination import FloatArray, IntArray, check_labels, check_values, check_weights

# ECE is a sum of absolute gaps with several local minima, and a bracketing search may stop at any of them: look at every
# point of a grid (steps of 2.3 % in T), then twice more around the best (0.0009 % in the end).
GRID_SIZE, ZOOM_SIZE, NUM_ZOOMS = 401, 101, 2


@dataclass(frozen=True)
class TemperatureFit:
    """A fitted temperature; NLL in nats per row on the fitting data, before (T = 1) and after."""

    temperature: float
    nll_before: float
    nll_after: float
    at_bound: bool


def check_logits(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    """Return float64 logits [n] and int64 labels [n]; ValueError if malformed or of one class only."""
    labels = check_labels(labels)
    logits = check_values(logits, name="logits", size=labels.size)
    if labels.min() == labels.max():
        raise ValueError(f"labels holds only class {labels[0]}; calibrate on rows of both classes")
    return logits, labels


def two_columns(logits: FloatArray) -> FloatArray:
    """Log-odds [n] of label 1 as scores [n, 2] of both classes."""
    return np.stack([np.zeros_like(logits), logits], axis=1)


def negative_log_likelihood(logits: FloatArray, labels: IntArray) -> float:
    """Mean NLL in nats of binary logits [n], never forming a probability that could round to 0 or 1."""
    return float(np.logaddexp(0.0, np.where(labels == 1, -logits, logits)).mean())


def _minimise_on_grid(loss: Callable[[float], float]) -> float:
    """Log T that minimises a loss with several minima, by a grid refined around its best point."""
    grid = np.linspace(*LOG_BOUNDS, GRID_SIZE)
    for zoom in range(NUM_ZOOMS + 1):
        best = int(np.argmin([loss(log_t) for log_t in grid]))
        if zoom < NUM_ZOOMS:
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
            # The middle point is the best so far, so that zooming never loses ground.
            grid = np.unique(np.r_[np.linspace(low, high, ZOOM_SIZE), grid[best]])
    return float(grid[best])


def fit_temperature(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    objective: Literal["nll", "ece"] = "nll",
    name: str = "these logits",
) -> TemperatureFit:
    """Fit T on held-out rows in float64 over log T.

    Takes logits [n] (log-odds of label 1, not probabilities) and labels int [n] with both classes; ValueError if malformed.
    `objective` "nll" is maximum likelihood (unimodal in log T, since convex in 1 / T); "ece" is the positive-class ECE over
    15 bins of equal mass, which hold the same rows at any T (no proper score: prefer "nll"). Not of equal width: there a
    huge T puts every prob into the bin of 0.5, whose ECE is |0.5 - base rate|, a perfect 0 on balanced data.

    `at_bound` is true when T is 0.01 or 100; a warning then says whose it is (`name`) and why.
    """
    scores, truth = check_logits(logits, labels)
    if objective == "nll":
        log_t = float(fit_log_temperatures(two_columns(scores), truth)[0])
    elif objective == "ece":
        log_t = _minimise_on_grid(
            lambda log_t: expected_calibration_error(expit(scores / math.exp(log_t)), truth, binning="mass").item()
        )
    else:
        raise ValueError(f"objective must be 'nll' or 'ece', got {objective!r}")
    at_bound = warn_at_bound(log_t, name=name)
    temperature = math.exp(log_t)
    return TemperatureFit(
        temperature=temperature,
        nll_before=negative_log_likelihood(scores, truth),
        nll_after=negative_log_likelihood(scores / temperature, truth),
        at_bound=at_bound,
    )


def apply_temperature(logits: npt.ArrayLike, temperature: float) -> FloatArray:
    """Probabilities sigmoid(logits / temperature), float64, of the shape of `logits`.

    ValueError if `temperature` is not positive and finite.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}; fit it with fit_temperature")
    return np.asarray(expit(np.asarray(logits, dtype=np.float64) / temperature))


def _temperatures(
    labels: npt.ArrayLike, log_probs: npt.ArrayLike, /, *, weights: npt.ArrayLike | None = None
) -> dict[str, FloatArray]:
    """A temperature as a metric of resamples."""
    truth = np.asarray(labels)
    rows = check_weights(weights, size=truth.size)
    return {"temperature": np.exp(fit_log_temperatures(np.asarray(log_probs), truth, weights=rows))}


def temperature_interval(log_probs: npt.ArrayLike, labels: npt.ArrayLike, groups: npt.ArrayLike) -> dict[str, float]:
    """``temperature_low`` and ``temperature_high``: 95 % limits of a temperature over the groups of its rows.

    Takes log-probabilities [n, C] (`two_columns` of binary logits), labels int [n] and groups [n]. The interval is that of
    log T, which is nearly symmetric as that of T is not. A limit is NaN where the groups are too few to tell.
    """
    summary = summarise(labels, log_probs, groups, metrics=_temperatures)
    return {f"temperature_{end}": summary[f"temperature_{end}"] for end in ("low", "high")}


def scaling_metrics(
    record: Mapping[str, Any], log_probs: npt.ArrayLike, labels: npt.ArrayLike, groups: npt.ArrayLike
) -> dict[str, Any]:
    """What `choose_scaling` recorded, its lists left out, with the limits of `temperature_interval` beside it."""
    single = {name: value for name, value in record.items() if name not in ("scale", "bias")}
    return single | temperature_interval(log_probs, labels, groups)
