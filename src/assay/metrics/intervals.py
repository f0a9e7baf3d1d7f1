"""Intervals that say how far a metric can be trusted: a jackknife over groups, Clopper-Pearson.

Rows of one group (a scene, a photograph, a video) are not independent, so what is left out is always a whole group. The
percentile bootstrap over groups covers too rarely with few of them: ``benchmarks/interval_coverage.py`` compares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_size

LEVEL = 0.95  # of confidence, of every interval
# Groups below which there is no interval: a variance from four groups or fewer is itself mostly chance.
MIN_GROUPS = 5
# More groups than this are left out by the block. It also has the jackknife hold for metrics that jump (TPR at a fixed
# FPR): for these one leaves out more than a few rows at a time (Shao and Wu 1989).
MAX_BLOCKS = 100
# 1e6 float64 = 8 MB; a metric holds about ten arrays of this size at once, so 80 MB whatever n is.
CHUNK_VALUES = 1_000_000
# Of `max_t_quantile`: its quantile is then within about 1 %.
NUM_DRAWS = 20_000
# Where a metric lives decides how an interval is made: on the scale on which it has no bounds, so that it keeps them.
Scale = Literal["share", "correlation", "positive", "difference"]


def check_groups(groups: npt.ArrayLike, *, size: int | None = None) -> IntArray:
    """Return the group of each row as codes 0 .. num_groups - 1, int64 [n].

    ValueError if `groups` is not 1-D, is empty, has not `size` rows or has a missing value: a row without a group would
    silently break the independence that intervals rest on.
    """
    array = np.asarray(groups)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"groups must be 1-D and non-empty, got shape {array.shape}; pass one group per row")
    check_size(array, name="groups", size=size)
    if any(group is None or group != group for group in array.tolist()):
        raise ValueError("groups holds a missing value; give every row a group (its own sample_id if it has none)")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def blocks_of(groups: npt.ArrayLike) -> IntArray:
    """The block that each row is left out with, as codes int64 [n]: its group, or one of `MAX_BLOCKS` sets of groups.

    Groups are shared out at random, since their names may be sorted by what they are; always in the same way.
    """
    codes = check_groups(groups)
    num_groups = int(codes.max()) + 1
    if num_groups <= MAX_BLOCKS:
        return codes
    block: IntArray = np.random.default_rng(0).permutation(num_groups) % MAX_BLOCKS
    return block[codes]


def left_out_weights(blocks: IntArray) -> Iterator[FloatArray]:
    """Chunks of weights float64 [b, n], together a row for each block [n]: 0 for the rows of that block, else 1."""
    num_blocks = int(blocks.max()) + 1
    chunk = max(1, CHUNK_VALUES // blocks.size)
    for start in range(0, num_blocks, chunk):
        number = np.arange(start, min(start + chunk, num_blocks))
        yield (number[:, None] != blocks).astype(np.float64)


def degrees_of_freedom(blocks: IntArray) -> float:
    """1 / sum of squared shares of the blocks, less 1: their number less 1 where all are of one size.

    The effective number of clusters (Kish 1965; Carter, Schnepel and Steigerwald 2017, "Asymptotic behavior of a t-test
    robust to cluster heterogeneity", with equal effects): where a few groups hold most of the rows, a variance rests on few.
    """
    shares = np.bincount(blocks) / blocks.size
    return float(1.0 / (shares**2).sum() - 1.0)


def t_quantile(df: float) -> float:
    """Two-sided 95 % quantile of t."""
    from scipy.stats import t

    return float(t.ppf((1.0 + LEVEL) / 2.0, max(df, 1.0)))


def max_t_quantile(left_out: npt.ArrayLike, *, df: float) -> float:
    """95 % quantile of the largest of k correlated |t|, for comparisons of which the best is then looked at.

    Intervals made with it hold all k at once (single-step max-t; Hothorn, Bretz and Westfall 2008, "Simultaneous inference
    in general parametric models"). The correlation is that of the jackknife's values ``left_out`` [k, G]; rows that do
    not vary take no part. From `NUM_DRAWS` draws, the same every time, and never below `t_quantile`.
    """
    values = np.asarray(left_out, dtype=np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=1))
    kept = centred[norm > 0] / norm[norm > 0, None]
    if not len(kept):
        return t_quantile(df)
    rng = np.random.default_rng(0)
    # Sums over the G values have the correlation of the rows, without its matrix, which may be singular.
    normal = rng.standard_normal((NUM_DRAWS, kept.shape[1])) @ kept.T
    spread = np.sqrt(rng.chisquare(max(df, 1.0), NUM_DRAWS) / max(df, 1.0))
    return max(t_quantile(df), float(np.quantile(np.abs(normal).max(axis=1) / spread, LEVEL)))


def jackknife_interval(
    point: float, left_out: npt.ArrayLike, *, df: float, scale: Scale, quantile: float | None = None
) -> tuple[float, float]:
    """95 % interval of a metric from its values ``left_out`` [G] with one group left out, as (low, high).

    The variance is (G - 1) / G times the sum of squared deviations of ``left_out`` (Tukey 1958), the quantile that of t with
    ``df`` degrees of freedom, and the interval is made by the delta method on the scale where the metric has no bounds:
    log-odds of a share, Fisher's z of a correlation, the logarithm of a positive number.

    (nan, nan) with fewer than `MIN_GROUPS`, where a value is undefined (without one group there is one class only), and
    where all values are equal: data that don't vary don't say how far a metric would. Only the difference of two systems
    that say the same is 0 without doubt.

    ``quantile``: in place of that of t, say `max_t_quantile`.
    """
    values = np.asarray(left_out, dtype=np.float64)
    num_groups = values.size
    if num_groups < MIN_GROUPS or not (np.isfinite(values).all() and math.isfinite(point)):
        return math.nan, math.nan
    error = math.sqrt((num_groups - 1) / num_groups * float(((values - values.mean()) ** 2).sum()))
    if error == 0.0:
        return (0.0, 0.0) if scale == "difference" and point == 0.0 else (math.nan, math.nan)
    reach = (t_quantile(df) if quantile is None else quantile) * error
    if scale == "share" and 0.0 < point < 1.0:
        middle, half = math.log(point / (1.0 - point)), reach / (point * (1.0 - point))
        return _share(middle - half), _share(middle + half)
    if scale == "correlation" and abs(point) < 1.0:
        middle, half = math.atanh(point), reach / (1.0 - point**2)
        return math.tanh(middle - half), math.tanh(middle + half)
    if scale == "positive" and point > 0.0:
        half = min(reach / point, 700.0)
        return point * math.exp(-half), point * math.exp(half)
    return point - reach, point + reach


def _share(log_odds: float) -> float:
    """The share with these log-odds, without overflow."""
    return 0.5 * (1.0 + math.tanh(0.5 * log_odds))


def clopper_pearson(k: int, n: int, *, side: Literal["two-sided", "upper"] = "two-sided") -> tuple[float, float]:
    """Exact binomial 95 % limits for the rate behind `k` events in `n` rows (Clopper and Pearson 1934).

    "two-sided" leaves 2.5 % on each side; "upper" spends all 5 % above and returns (0, high). n = 0 knows nothing and
    gives (0, 1). Raises ValueError unless 0 <= k <= n.
    """
    from scipy.stats import beta

    if not 0 <= k <= n:
        raise ValueError(f"k must lie in 0 .. n, got k={k}, n={n}; pass the event count first, then the row count")
    tail = (1.0 - LEVEL) / (2.0 if side == "two-sided" else 1.0)
    low = 0.0 if k == 0 or side == "upper" else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1.0 - tail, k + 1, n - k))
    return low, high
