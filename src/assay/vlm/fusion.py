"""Correct a base classifier by a second model that only says how likely the HIGH class is.

The rule is a product of experts (Hinton 2002, "Training products of experts by minimizing contrastive divergence",
equation 1), the weighted logarithmic opinion pool of Genest and Zidek 1986 ("Combining probability distributions",
section 3). The second expert gives the high class its odds over its neutral point and every other class 1:

    factor_i = ((h_i / (1 - h_i)) / (neutral / (1 - neutral))) ** strength
    p'_i(high) ~ p_i(high) * factor_i;    p'_i(c) ~ p_i(c) for every other class c

so a row where h_i = neutral stays as it is, and the ratios among the other classes never change. Take as `neutral` the
mean of h on the fitting role: odds over the base rate are the likelihood ratio that Bayes' rule multiplies by, and a
second model that is too sure of itself everywhere is not rewarded for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from assay.calibration.pooling import pool
from assay.calibration.scaling import Choice, Scaling, choose_scaling, fit_temperature_scaling
from assay.vlm.scores import POOL, SECOND

# What is fitted to put the models together, in the folder of models.
FUSION = "fusion.json"

# A base probability of 0 or 1 would be final, whatever the second model says, and its logarithm infinite.
MIN_PROB = 1e-12

# Two-option read-outs of large models saturate at 0 and 1 in float16; 1e-6 is odds of a million to one.
MIN_HIGH_PROB = 1e-6

# Rows of float16 or float32 probs miss a sum of 1 by about this much at most.
SUM_TOLERANCE = 1e-3


def correct(probs: np.ndarray, high_probs: np.ndarray, *, high: int, neutral: float, strength: float) -> np.ndarray:
    """Base probabilities float64 [n, num_classes] with the high class moved by the second model; see the module.

    Args:
        probs: float [n, num_classes], rows sum to 1; clipped to at least 1e-12 where strength > 0.
        high_probs: float [n], the second model's probability of the high class; clipped to [1e-6, 1 - 1e-6].
        high: index of the high class in the columns of ``probs``.
        neutral: the second model's neutral point in (0, 1), at which a row stays as it is.
        strength: >= 0; 0 returns ``probs`` bit for bit in a new array, 1 trusts the second model's odds in full.

    Raises:
        ValueError: a shape, a range or a row sum is wrong, naming the field.
    """
    base, scores = _check_inputs(probs, high_probs, high=high, neutral=neutral)
    _check_strength(strength, name="strength")
    if strength == 0:
        return base.copy()
    evidence = np.zeros_like(base)
    evidence[:, high] = _log_odds_ratio(scores, neutral)
    return np.exp(pool([np.log(np.maximum(base, MIN_PROB)), evidence], [1.0, strength]))


def fit_strength(
    probs: np.ndarray,
    high_probs: np.ndarray,
    labels: np.ndarray,
    *,
    high: int,
    neutral: float,
    max_strength: float,
) -> float:
    """Strength in [0, max_strength] that minimises the mean negative log-likelihood of ``labels``, to 4 decimals.

    The NLL is convex in the strength s: with e_i the log odds ratio of row i, a row's NLL is the log-sum-exp of
    (log p_ic + s e_i [c = high]) over c, convex as a log-sum-exp of functions affine in s, less one such function.
    Its derivative, the mean of e_i (p'_i(high) - [y_i = high]), therefore never falls (the second derivative is the
    mean of e_i^2 p' (1 - p') >= 0), and its sign at the ends decides: >= 0 at 0 means that no strength gains, and
    0.0 comes back exactly; <= 0 at max_strength means that bound; else its only root is found by Brent's method,
    more exactly than a search over the flat bottom of the NLL.

    Args:
        probs, high_probs, high, neutral: as in `correct`, on the rows of the fitting role (not those reported on).
        labels: int64 [n], class indices.
        max_strength: upper bound, >= 0.
    """
    base, scores = _check_inputs(probs, high_probs, high=high, neutral=neutral)
    _check_strength(max_strength, name="max_strength")
    is_high = labels == high
    evidence = _log_odds_ratio(scores, neutral)
    clipped = np.maximum(base, MIN_PROB)
    base_logit = np.log(clipped[:, high]) - np.log(np.delete(clipped, high, axis=1).sum(axis=1))

    def slope(strength: float) -> float:
        return float(np.mean(evidence * (expit(base_logit + strength * evidence) - is_high)))

    if slope(0.0) >= 0:
        return 0.0
    if slope(max_strength) <= 0:
        return float(max_strength)
    # Rounded, so that the last digits of the search do not reach what is saved.
    return min(round(float(brentq(slope, 0.0, max_strength, xtol=1e-7)), 4), float(max_strength))


def fit_fusion(
    calib: Mapping[str, np.ndarray],
    tune: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    groups: np.ndarray,
    *,
    systems: Iterable[str],
    seconds: Iterable[str],
    high: int,
    max_strength: float,
    scaling: Choice,
) -> tuple[dict[str, Scaling], dict[str, dict[str, Any]]]:
    """Scalings, fitted on calib, and what puts ``base`` and each second model together, fitted on tune.

    Args:
        calib, tune: log-probabilities [n, C] of each first model and [n, 2] of each second one.
        truth: class indices int64 [n] of the roles ``calib`` and ``tune``.
        groups: of the rows of calib [n].
        systems: the fine-tuned first models, ``base`` among them.
        seconds: names of the second models, `POOL` for all of them, their columns begin with `SECOND`.
        scaling: see `choose_scaling`; every first model has the same choice and its own fit.

    Returns:
        First model -> scaling; and second model -> its name and whom to ask (``members``), the arguments of `correct`,
        the scaling of ``base`` and its own temperature.
    """
    found = {
        name: choose_scaling(calib[name], truth["calib"], groups, choice=scaling, name=f"model {name}")
        for name in systems
    }
    scalings = {name: fitted for name, (fitted, _) in found.items()}
    is_high = (truth["calib"] == high).astype(np.int64)
    base = scalings["base"].probs(tune["base"])
    fusions: dict[str, dict[str, Any]] = {}
    names = list(seconds)
    for name in names:
        key = f"{SECOND}{name}"
        high_temperature = fit_temperature_scaling(calib[key], is_high, name=f"model {key}")
        second = second_probs(tune[key], high_temperature)
        neutral = float(second.mean())
        strength = fit_strength(base, second, truth["tune"], high=high, neutral=neutral, max_strength=max_strength)
        members = [other for other in names if other != POOL] if name == POOL else [name]
        fusion = {"second": name, "members": members, "high": high, "neutral": neutral, "strength": strength}
        fusions[name] = fusion | found["base"][1] | {"high_temperature": high_temperature}
    return scalings, fusions


def choose_second(
    tune: Mapping[str, np.ndarray],
    labels: np.ndarray,
    scalings: Mapping[str, Scaling],
    fusions: Mapping[str, Mapping[str, Any]],
    *,
    choice: str,
) -> str:
    """The second model that corrects: the one named by ``choice``, or for ``auto`` that of the least NLL on tune.

    Each has one number fitted on tune, so that none is favoured by having more; of equals the first is taken.

    Args:
        tune, scalings, fusions: see `fit_fusion`.
        labels: class indices int64 [n] of tune.
    """
    if choice != "auto":
        return choice
    base = scalings["base"].probs(tune["base"])
    losses = {}
    for name, fusion in fusions.items():
        probs = corrected(base, tune[f"{SECOND}{name}"], fusion)
        losses[name] = -float(np.mean(np.log(np.maximum(probs[np.arange(len(labels)), labels], MIN_PROB))))
    return min(losses, key=lambda name: losses[name])


def corrected(base: np.ndarray, log_probs: np.ndarray, fusion: Mapping[str, Any]) -> np.ndarray:
    """Probabilities float64 [n, C] of the first model, corrected by what `fit_fusion` found for a second one.

    Args:
        base: calibrated probabilities of the first model [n, C].
        log_probs: of the second model [n, 2].
    """
    options = {key: fusion[key] for key in ("high", "neutral", "strength")}
    return correct(base, second_probs(log_probs, fusion["high_temperature"]), **options)


def second_probs(log_probs: np.ndarray, temperature: float) -> np.ndarray:
    """The second model's probability of the high class, float64 [n], from log-probabilities [n, 2] of no and yes."""
    return Scaling.of_temperature(temperature, num_classes=2).probs(log_probs)[:, 1]


def _log_odds_ratio(high_probs: np.ndarray, neutral: float) -> np.ndarray:
    """Log of the odds of ``high_probs`` float64 [n] over the odds of ``neutral``; finite."""
    return logit(np.clip(high_probs, MIN_HIGH_PROB, 1 - MIN_HIGH_PROB)) - logit(neutral)


def _check_inputs(
    probs: np.ndarray, high_probs: np.ndarray, *, high: int, neutral: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays as float64; ValueError naming what is malformed."""
    base, scores = np.asarray(probs, dtype=np.float64), np.asarray(high_probs, dtype=np.float64)
    if base.ndim != 2 or base.shape[0] == 0 or base.shape[1] < 2:
        raise ValueError(f"probs must be [n >= 1, num_classes >= 2], got shape {base.shape}; pass one row a sample")
    if scores.shape != (len(base),):
        raise ValueError(f"high_probs must be [{len(base)}] as probs has rows, got shape {scores.shape}; align them")
    for name, values in (("probs", base), ("high_probs", scores)):
        wrong = values[~((values >= 0) & (values <= 1))]
        if wrong.size:
            raise ValueError(f"{name} must lie in [0, 1], got {wrong[0]}; pass probabilities, not logits")
    gap = np.abs(base.sum(axis=1) - 1)
    if gap.max() > SUM_TOLERANCE:
        raise ValueError(
            f"rows of probs must sum to 1, row {gap.argmax()} misses it by {gap.max():.3g}; normalise them"
        )
    if not 0 <= high < base.shape[1]:
        raise ValueError(f"high must be a column of probs, 0 to {base.shape[1] - 1}, got {high}")
    if not 0 < neutral < 1:
        raise ValueError(f"neutral must lie strictly between 0 and 1, got {neutral}; use the mean of high_probs")
    return base, scores


def _check_strength(strength: float, *, name: str) -> None:
    if not 0 <= strength < np.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {strength}; 0 leaves the base as it is")
