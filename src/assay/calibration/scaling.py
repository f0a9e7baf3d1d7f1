"""Temperature and vector scaling of a classifier with any number of classes (Guo et al. 2017, sections 4.2 and 5).

Both take log-probabilities z [n, C] and give softmax(scale * z + bias). A temperature T is scale = 1 / T for every class
and no bias: it keeps the order of the classes in each row. Vector scaling has a scale and a bias per class: 2 C - 1 free
numbers, which can move a class that is named too often, and need more rows for it.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax, softmax

# Logits of trained networks lie within about +-30. At T = 0.01 a logit of 0.1 is already a probability of 0.99995, at
# T = 100 a logit of 10 is 0.52: beyond either bound all probabilities are 0/1 or 0.5 and T means nothing.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
LOG_BOUNDS = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
# Odds of 22,000 to 1: a class that calib lacks would take its bias to minus infinity.
MAX_BIAS = 10.0
# An expert's log-probability of an impossible class, so that 0 * -inf does not arise.
MIN_LOG_PROB = -1e5
NUM_FOLDS = 5
# With fewer groups the held-out parts hold a handful each, and a choice between the two would be a coin's.
MIN_GROUPS = 20

Choice = Literal["auto", "temperature", "vector"]


@dataclass(frozen=True)
class Scaling:
    """What is applied to log-probabilities: one factor and one summand per class [C]."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    @classmethod
    def of_temperature(cls, temperature: float, *, num_classes: int) -> Scaling:
        """The same factor 1 / T for every class."""
        return cls((1 / temperature,) * num_classes, (0.0,) * num_classes)

    def log_probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Calibrated log-probabilities float64 [n, C]; ValueError where it was fitted for another number of classes."""
        num_classes = np.shape(log_probs)[1]
        if not len(self.scale) == len(self.bias) == num_classes:
            raise ValueError(
                f"scale has {len(self.scale)} and bias {len(self.bias)} values for {num_classes} classes; fit them again"
            )
        values = np.maximum(np.asarray(log_probs, dtype=np.float64), MIN_LOG_PROB)
        found: np.ndarray = log_softmax(values * np.array(self.scale) + np.array(self.bias), axis=1)
        return found

    def probs(self, log_probs: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float64 [n, C]."""
        return np.exp(self.log_probs(log_probs))


def mean_nll(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of log-probabilities [n, C]."""
    return float(-log_probs[np.arange(len(labels)), labels].mean())


def fit_log_temperatures(log_probs: np.ndarray, labels: np.ndarray, *, weights: np.ndarray | None = None) -> np.ndarray:
    """Log T float64 [B] of maximum likelihood within LOG_BOUNDS, for each row of ``weights`` [B, n] (None: ones).

    The likelihood is concave in 1 / T, so its slope there, the mean of z[label] - sum_c p_c z_c, falls through one root:
    Brent's method finds it. A slope that has one sign throughout ends at a bound. (A search that stops where the slope is
    small, as L-BFGS does, would end somewhere on the way to the bound instead: with two classes that a threshold
    separates by 2 units each at T = 0.23, wherever that may be.)

    Takes log-probabilities [n, C], or any scores whose differences are log-odds, and labels int [n].
    """
    values = np.maximum(np.asarray(log_probs, dtype=np.float64), MIN_LOG_PROB)
    values = values - values.max(axis=1, keepdims=True)
    true = values[np.arange(len(labels)), labels]

    def slope(log_t: float, row: np.ndarray) -> float:
        """Of the log-likelihood with respect to 1 / T."""
        expected = (softmax(values * math.exp(-log_t), axis=1) * values).sum(axis=1)
        return float(row @ (true - expected))

    low, high = LOG_BOUNDS
    found = []
    for row in np.ones((1, len(labels))) if weights is None else weights:
        if slope(high, row) <= 0:  # even the flattest is too sharp; no information at all counts as this
            found.append(high)
        elif slope(low, row) >= 0:
            found.append(low)
        else:
            found.append(float(brentq(slope, low, high, args=(row,), xtol=1e-12)))
    return np.array(found)


def warn_at_bound(log_temperature: float, *, name: str) -> bool:
    """Whether a temperature lies at a bound of its search; then a warning says which and why."""
    if log_temperature not in LOG_BOUNDS:
        return False
    if log_temperature == LOG_BOUNDS[0]:
        reason = "the logits separate the classes of these rows, so ever sharper fits better; use more or harder rows"
    else:
        reason = "the logits carry no information on the labels, so the flattest fits best; check polarity and rows"
    # A stage's reader looks for whose temperature it is, not for the line here.
    warnings.warn(
        f"temperature of {name} reached its bound {math.exp(log_temperature):g}: {reason}", UserWarning, stacklevel=3
    )
    return True


def fit_temperature_scaling(log_probs: np.ndarray, labels: np.ndarray, *, name: str) -> float:
    """Temperature of maximum likelihood for log-probabilities [n, C], to 4 decimals; ``name`` is for its warning."""
    (found,) = fit_log_temperatures(log_probs, labels)
    warn_at_bound(float(found), name=name)
    # Rounded, so that the last digits of the search do not reach what is saved.
    return round(math.exp(found), 4)


def fit_vector_scaling(log_probs: np.ndarray, labels: np.ndarray) -> Scaling:
    """Vector scaling of maximum likelihood (Guo et al. 2017, section 4.2: W diagonal), to 4 decimals.

    The loss is convex. Biases have a mean of zero (a common summand changes nothing) and lie within +-`MAX_BIAS`.
    """
    values = np.maximum(np.asarray(log_probs, dtype=np.float64), MIN_LOG_PROB)
    n, num_classes = values.shape
    truth = np.eye(num_classes)[labels]

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.split(parameters, 2)
        scores = log_softmax(scale * values + bias, axis=1)
        excess = np.exp(scores) - truth
        gradient = np.concatenate([(excess * values).sum(axis=0), excess.sum(axis=0)]) / n
        return float(-(truth * scores).sum() / n), gradient

    start = np.r_[np.full(num_classes, math.exp(-fit_log_temperatures(values, labels)[0])), np.zeros(num_classes)]
    bounds = [(1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE)] * num_classes + [(-MAX_BIAS, MAX_BIAS)] * num_classes
    options = {"ftol": 1e-13, "gtol": 1e-8, "maxiter": 2000}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    scale, bias = np.split(found.x, 2)
    return Scaling(tuple(scale.round(4).tolist()), tuple((bias - bias.mean()).round(4).tolist()))


def held_out_gain(log_probs: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Nats per row that vector scaling gains over a temperature on held-out groups, and the standard error of that.

    Five folds over groups; the error is that of a sum over independent groups.
    """
    from sklearn.model_selection import GroupKFold

    gains = np.zeros(len(labels))
    for fitted, held in GroupKFold(NUM_FOLDS).split(log_probs, labels, groups):
        log_t = float(fit_log_temperatures(log_probs[fitted], labels[fitted])[0])
        simple = Scaling.of_temperature(math.exp(log_t), num_classes=log_probs.shape[1])
        ours = fit_vector_scaling(log_probs[fitted], labels[fitted])
        at = np.arange(len(held)), labels[held]
        gains[held] = ours.log_probs(log_probs[held])[at] - simple.log_probs(log_probs[held])[at]
    codes = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(codes, weights=gains - gains.mean())
    return float(gains.mean()), float(np.sqrt((sums**2).sum() * sums.size / (sums.size - 1)) / len(labels))


def choose_scaling(
    log_probs: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, choice: Choice, name: str
) -> tuple[Scaling, dict[str, Any]]:
    """The scaling that ships, fitted and chosen on the same role, calib, and what the choice rests on.

    Args:
        log_probs: float [n, C], not calibrated.
        labels: int [n].
        groups: [n]; rows of one group are held out together.
        choice: ``temperature``, ``vector``, or ``auto``: vector where it gains more than one standard error on held-out
            groups (the one-standard-error rule, Breiman et al. 1984, section 3.4.3), of which there must be `MIN_GROUPS`,
            and where it leaves rows on the wrong side: if it separates the classes, ever sharper fits better, and a new
            row on the wrong side costs without limit.
        name: of the system, for a warning.

    Returns:
        The scaling, and: scaling (its name), temperature (the fitted one, whatever ships), scale, bias, vector_gain
        and vector_gain_error (nats a row; None where nothing was chosen, or among too few groups).
    """
    temperature = fit_temperature_scaling(log_probs, labels, name=name)
    wanted, gain, error = choice == "vector", None, None
    if choice == "auto" and len(np.unique(groups)) >= MIN_GROUPS:
        gain, error = held_out_gain(log_probs, labels, groups)
        wanted = gain > error
    shipped, scaling = "temperature", Scaling.of_temperature(temperature, num_classes=log_probs.shape[1])
    if wanted:
        vector = fit_vector_scaling(log_probs, labels)
        separated = bool((vector.log_probs(log_probs).argmax(axis=1) == labels).all())
        if separated and choice == "vector":
            warnings.warn(
                f"vector scaling of {name} separates the classes of its {len(labels)} rows, so ever sharper fits better; "
                "calibrate on more rows, or choose temperature or auto",
                UserWarning,
                stacklevel=2,
            )
        if choice == "vector" or not separated:
            shipped, scaling = "vector", vector
    record: dict[str, Any] = {"scaling": shipped, "temperature": temperature}
    record |= {"scale": list(scaling.scale), "bias": list(scaling.bias)}
    return scaling, record | {"vector_gain": gain, "vector_gain_error": error}
