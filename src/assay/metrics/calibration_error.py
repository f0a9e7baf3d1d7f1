"""How far probabilities are from the frequencies they promise: ECE in bins and smooth, a test of it, reliability table.

All of it is about the probability of the positive class (label 1 = forged), not about the top-label
confidence of Guo et al. 2017: top-label error adds "too high on real" to "too low on forged" and so hides a
one-sided bias.

Bins are [low, high). On equal width the value 1.0 has a bin to itself, as in torchmetrics (whose binary
version this equals, although its documentation says top-label): a saturated network promises certainty there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_sample
from assay.metrics.intervals import CHUNK_VALUES, check_groups, clopper_pearson

if TYPE_CHECKING:
    import pandas as pd

Binning = Literal["width", "mass"]
# Up to this many groups every pattern of signs is tried, 2^11; beyond, as many are drawn.
EXACT_GROUPS = 12
NUM_FLIPS = 2**11
# Of the smooth ECE: cells over [0, 1], and halvings of the width's bracket (to 1e-6).
GRID_CELLS, NUM_HALVINGS = 1024, 20


@dataclass(frozen=True)
class CalibrationTest:
    """What `calibration_test` finds.

    Attributes:
        p_value: share of the sign patterns whose ECE is at least the observed one.
        chance: mean ECE over the sign patterns: what groups as unlike as these show of a calibrated predictor.
        chance_p95: its 95th percentile.
    """

    p_value: float
    chance: float
    chance_p95: float


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
    reported. Biased upwards in small samples (and once more in their resamples): read it beside `calibration_test`.
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


def smooth_calibration_error(
    probs: npt.ArrayLike, labels: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """SmoothECE of the positive class (Blasiok and Nakkiran 2023, "Smooth ECE", definition 3 and equation 7), float64 [B].

    The residuals label - prob are smoothed over [0, 1] by a Gaussian kernel of width s that is reflected at both ends; the
    integral of what is left of them, in absolute value, falls with s, and smECE is the s at which it equals s. So there are
    no bins to choose, and a small change of a probability changes it little: a bin's edge can do nothing.

    Parameters and errors are those of `expected_calibration_error`. Probabilities are rounded to a grid of 1/1024, on which
    the reflected kernel is a product in the cosine transform; so differences below 0.001 mean nothing.
    """
    labels, probs, rows = check_sample(labels, probs, weights)
    blocks = np.array_split(rows, -(-len(rows) * GRID_CELLS // CHUNK_VALUES))
    return np.concatenate([_smooth_error(probs, labels - probs, block) for block in blocks])


def _smooth_error(probs: FloatArray, residuals: FloatArray, rows: FloatArray) -> FloatArray:
    """`smooth_calibration_error` of one block of weights [b, n]."""
    from scipy.fft import dct, idct

    cells = np.minimum((probs * GRID_CELLS).astype(np.int64), GRID_CELLS - 1)
    index = cells + GRID_CELLS * np.arange(len(rows))[:, None]
    sums = np.bincount(index.ravel(), weights=(rows * residuals).ravel(), minlength=len(rows) * GRID_CELLS)
    waves = dct(sums.reshape(len(rows), GRID_CELLS) / rows.sum(axis=1, keepdims=True), norm="ortho")
    frequency = np.pi * np.arange(GRID_CELLS)
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(NUM_HALVINGS):
        width = (low + high) / 2
        smoothed = idct(waves * np.exp(-0.5 * (frequency * width[:, None]) ** 2), norm="ortho")
        above = np.abs(smoothed).sum(axis=1) > width
        low, high = np.where(above, width, low), np.where(above, high, width)
    found: FloatArray = (low + high) / 2
    return found


def _sign_patterns(num_groups: int, *, seed: int) -> Iterator[FloatArray]:
    """Chunks [b, num_groups] of patterns of +1 and -1, the first of all +1: every one, or `NUM_FLIPS` random ones.

    The first group keeps its sign, since a pattern and its negative give one ECE.
    """
    rng, exact = np.random.default_rng(seed), num_groups <= EXACT_GROUPS
    total = 2 ** (num_groups - 1) if exact else NUM_FLIPS
    chunk = max(1, CHUNK_VALUES // num_groups)
    for start in range(0, total, chunk):
        numbers = np.arange(start, min(start + chunk, total))
        if exact:
            flipped = (numbers[:, None] >> np.arange(num_groups - 1)) & 1
        else:
            flipped = rng.integers(2, size=(numbers.size, num_groups - 1)) * (numbers > 0)[:, None]
        yield np.column_stack([np.ones(numbers.size), 1.0 - 2.0 * flipped])


def calibration_test(
    probs: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    num_bins: int = 15,
    binning: Binning = "width",
    seed: int,
) -> CalibrationTest:
    """Is the ECE more than chance, where the rows of a group (a scene) are not independent?

    The null hypothesis is that in every bin the labels have the mean that the probabilities promise, over groups. Then a
    group's sums of label - prob per bin, a vector, are as likely as their negative (nearly so: exactly for symmetric
    residuals). The ECE is a sum over bins of the absolute value of the sum of these vectors; each draw changes the sign of
    every group's vector or not. That is a sign-flipping test with groups as units (Canay, Romano and Shaikh 2017,
    "Randomization tests under an approximate symmetry assumption"; the wild cluster bootstrap of Cameron, Gelbach and
    Miller 2008 with no parameter to estimate), valid for few groups and any dependence within them. In simulation it
    rejects 1.5 to 7.5 % of calibrated predictors at 5 % (docs/metrics.md).

    All sign patterns are tried up to `EXACT_GROUPS` groups. With fewer than 6, p cannot fall below 0.05: there are 2^(G-1).
    Arguments and errors are those of `expected_calibration_error`, and groups [n].
    """
    truth, values, _ = check_sample(labels, probs, None)
    codes = check_groups(groups, size=truth.size)
    num_groups = int(codes.max()) + 1
    member = _membership(values, num_bins=num_bins, binning=binning)
    sums = np.zeros((num_groups, member.shape[1]))
    np.add.at(sums, codes, member * (truth - values)[:, None])
    draws = np.concatenate([np.abs(signs @ sums).sum(axis=1) for signs in _sign_patterns(num_groups, seed=seed)])
    draws /= truth.size
    return CalibrationTest(
        # Sums in another order may differ in the last digit.
        p_value=float((draws >= draws[0] * (1 - 1e-9)).mean()),
        chance=float(draws.mean()),
        chance_p95=float(np.quantile(draws, 0.95)),
    )
