"""Intervals that say how far a metric can be trusted: group bootstrap, percentiles, Clopper-Pearson."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_size

LEVEL = 0.95  # of confidence, of every interval
# 1e6 float64 = 8 MB; a metric holds about ten arrays of this size at once, so 80 MB whatever n is.
CHUNK_VALUES = 1_000_000


def check_groups(groups: npt.ArrayLike, *, size: int | None = None) -> IntArray:
    """Return the group of each row as codes 0 .. num_groups - 1, int64 [n].

    ValueError if `groups` is not 1-D, is empty, has not `size` rows or has a missing value: a row without a group would
    silently break the independence that the bootstrap rests on.
    """
    array = np.asarray(groups)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"groups must be 1-D and non-empty, got shape {array.shape}; pass one group per row")
    check_size(array, name="groups", size=size)
    if any(group is None or group != group for group in array.tolist()):
        raise ValueError("groups holds a missing value; give every row a group (its own sample_id if it has none)")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def group_bootstrap_weights(groups: npt.ArrayLike, *, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Multiplicity of every row in each resample of whole groups (cluster bootstrap, Field and Welsh 2007).

    As many groups as there are get drawn with replacement and all rows of a group come together, because rows of one
    group (a source photo, a video) are not independent. So resamples differ in their number of rows. The same seed gives
    the same resamples however the rows are ordered.

    Yields chunks float64 [b, n] that bound the memory; their b add up to `num_resamples`. Raises ValueError if that is
    below 1 or `groups` [n] is malformed.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 1000 is usual")
    codes = check_groups(groups)
    num_groups = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_VALUES // codes.size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        drawn = rng.integers(num_groups, size=(rows, num_groups))
        drawn += num_groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_groups).reshape(rows, num_groups)
        yield counts.astype(np.float64)[:, codes]


def percentile_interval(draws: npt.ArrayLike) -> tuple[float, float]:
    """Central 95 % percentile interval of bootstrap `draws` [B] (Efron 1979), as (low, high) in their unit.

    Draws that are not finite (a resample with one class has no AUC) are left out. With fewer than half left the rest is
    no fair sample and the answer is (nan, nan).
    """
    values = np.asarray(draws, dtype=np.float64)
    finite = values[np.isfinite(values)]
    tail = (1.0 - LEVEL) / 2.0
    if finite.size == 0 or 2 * finite.size < values.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)


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
