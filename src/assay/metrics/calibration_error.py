"""How far probabilities are from the frequencies they promise: ECE, reliability table and noise floor.

All of it is about the probability of the positive class (label 1 = forged), not about the top-label
confidence of Guo et al. 2017: top-label error adds "too high on real" to "too low on forged" and so hides a
one-sided bias.

Bins are [low, high). On equal width the value 1.0 has a bin to itself, as in torchmetrics (whose binary
version this equals, although its documentation says top-label): a saturated network promises certainty there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_sample, check_values
from assay.metrics.intervals import CHUNK_VALUES, clopper_pearson

if TYPE_CHECKING:
    import pandas as pd

Binning = Literal["width", "mass"]
NUM_DRAWS = 1000


@dataclass(frozen=True)
class NoiseFloor:
    """ECE that a perfectly calibrated predictor shows by chance: mean and 95th percentile, in [0, 1]."""

    mean: float
    p95: float


def _bin_edges(probs: FloatArray, *, num_bins: int, binning: Binning) -> FloatArray:
    """Ascending edges [k + 1] of the bins [low, high); the last one is closed on the right."""
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}; 15 is usual")
    grid = np.linspace(0.0, 1.0, num_bins + 1)
    if binning == "width":
        return np.append(grid, 1.0)  # the closed bin [1, 1]
    if binning == "mass":
        # Many equal probs make quantiles coincide; merging them beats empty bins of zero width.
        inner = np.unique(np.quantile(probs, grid[1:-1]))
        return np.concatenate([[probs.min()], inner, [probs.max()]])
    raise ValueError(f"binning must be 'width' or 'mass', got {binning!r}")


def _bin_index(probs: FloatArray, edges: FloatArray) -> IntArray:
    """Bin number [n] of each prob, 0 .. len(edges) - 2."""
    return np.searchsorted(edges[1:-1], probs, side="right").astype(np.int64)


def _membership(probs: FloatArray, *, num_bins: int, binning: Binning) -> FloatArray:
    """One-hot bin membership [n, k]: turns sums per bin into one matrix product for all resamples."""
    edges = _bin_edges(probs, num_bins=num_bins, binning=binning)
    member = np.zeros((probs.size, edges.size - 1))
    member[np.arange(probs.size), _bin_index(probs, edges)] = 1.0
    return member


def expected_calibration_error(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    weights: npt.ArrayLike | None = None,
) -> FloatArray:
    """Positive-class expected calibration error (Naeini et al. 2015): sum_b n_b / n |mean prob_b - share_b|, float64 [B].

    Takes probs [n] of label 1, labels and weights as in `discrimination`. Bins over [0, 1] have equal width, or equal mass:
    then quantiles of `probs` part them (about n / num_bins rows each). With weights the bins stay those of the full
    sample: edges that moved with each resample would make the interval describe many estimators instead of the one
    reported. Biased upwards in small samples (and once more in their resamples): read it beside `ece_noise_floor`.
    """
    labels, probs, rows = check_sample(labels, probs, weights)
    # n_b |mean prob_b - share_b| is |sum of (prob - label) in b|, so no bin count is ever divided by.
    gaps = _membership(probs, num_bins=num_bins, binning=binning) * (probs - labels)[:, None]
    errors: FloatArray = np.abs(rows @ gaps).sum(axis=1) / rows.sum(axis=1)
    return errors


def reliability_table(
    probs: npt.ArrayLike, labels: npt.ArrayLike, *, num_bins: int = 15, binning: Binning = "width"
) -> pd.DataFrame:
    """The bins behind the ECE, empty ones dropped; parameters and errors as in `expected_calibration_error`.

    Columns bin_low, bin_high, count, mean_prob, share_positive, and share_low, share_high (Clopper-Pearson 95 % limits of
    share_positive; they treat rows as independent, so with several rows per group they are too narrow).
    """
    import pandas as pd

    labels, probs, _ = check_sample(labels, probs, None)
    edges = _bin_edges(probs, num_bins=num_bins, binning=binning)
    index = _bin_index(probs, edges)
    count = np.bincount(index, minlength=edges.size - 1)
    kept = np.flatnonzero(count)
    count = count[kept]
    positive = np.bincount(index, weights=labels, minlength=edges.size - 1)[kept].astype(np.int64)
    limits = [clopper_pearson(int(k), int(n)) for k, n in zip(positive, count, strict=True)]
    return pd.DataFrame(
        {
            "bin_low": edges[kept],
            "bin_high": edges[kept + 1],
            "count": count,
            "mean_prob": np.bincount(index, weights=probs, minlength=edges.size - 1)[kept] / count,
            "share_positive": positive / count,
            "share_low": [low for low, _ in limits],
            "share_high": [high for _, high in limits],
        }
    )


def ece_noise_floor(probs: npt.ArrayLike, *, num_bins: int = 15, binning: Binning = "width", seed: int) -> NoiseFloor:
    """ECE of a predictor whose `probs` [n] are exactly right, by drawing labels ~ Bernoulli(probs).

    This is the consistency resampling of Bröcker and Smith 2007. An ECE below `p95` is no evidence of miscalibration. For
    probs spread over [0, 1] and 15 bins the mean is about 0.08 at n = 200, 0.04 at 1,000 and 0.017 at 5,000. Rows count as
    independent: with several rows per group the true floor is higher. Raises ValueError if an input is malformed.
    """
    probs = check_values(probs, name="probs", unit=True)
    member = _membership(probs, num_bins=num_bins, binning=binning)
    expected = probs @ member
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_VALUES // probs.size)
    errors = []
    for start in range(0, NUM_DRAWS, chunk):
        shape = (min(chunk, NUM_DRAWS - start), probs.size)
        labels = (rng.random(shape) < probs).astype(np.float64)
        errors.append(np.abs(labels @ member - expected).sum(axis=1) / probs.size)
    draws = np.concatenate(errors)
    return NoiseFloor(mean=float(draws.mean()), p95=float(np.quantile(draws, 0.95)))
