"""Intervals that say how far a figure can be trusted: group bootstrap, percentiles, Clopper-Pearson."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Side = Literal["two-sided", "upper", "lower"]

# 1e6 float64 = 8 MB; a metric holds about ten arrays of this size at once, so 80 MB whatever n is.
CHUNK_VALUES = 1_000_000


def check_groups(groups: npt.ArrayLike, *, size: int | None = None) -> npt.NDArray[np.int64]:
    """Return the group of each row as codes 0 .. num_groups - 1, int64 [n].

    Raises
    ------
    ValueError
        If `groups` is not 1-D, is empty, has not `size` rows or has a missing value: a row without a group
        would silently break the independence that the bootstrap rests on.
    """
    array = np.asarray(groups)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"groups must be 1-D and non-empty, got shape {array.shape}; pass one group per row")
    if size is not None and array.size != size:
        raise ValueError(f"groups has {array.size} values but labels has {size}; align both on sample_id")
    if any(group is None or group != group for group in array.tolist()):
        raise ValueError("groups holds a missing value; give every row a group (its own sample_id if it has none)")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def group_bootstrap_weights(
    groups: npt.ArrayLike, *, num_resamples: int, seed: int, chunk_values: int = CHUNK_VALUES
) -> Iterator[FloatArray]:
    """Multiplicity of every row in each resample of whole groups (cluster bootstrap, Field and Welsh 2007).

    As many groups as there are get drawn with replacement and all rows of a group come together, because rows
    of one group (a source photo, a video) are not independent. Resamples therefore vary in their row count.

    Parameters
    ----------
    groups : array [n] of any sortable values without gaps.
    num_resamples : B >= 1.
    seed : the same seed gives the same resamples whatever `chunk_values` is and however the rows are ordered.
    chunk_values : most values in one chunk; at least one resample is always yielded.

    Yields
    ------
    float64 array [b, n]; the chunks' b add up to B.

    Raises
    ------
    ValueError
        If `num_resamples` < 1 or `groups` is malformed.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}; 1000 is usual")
    codes = check_groups(groups)
    num_groups = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, chunk_values // codes.size)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        drawn = rng.integers(num_groups, size=(rows, num_groups))
        drawn += num_groups * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * num_groups).reshape(rows, num_groups)
        yield counts.astype(np.float64)[:, codes]


def check_level(level: float) -> float:
    """Return `level`; ValueError unless it lies strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}; write 0.95 for 95 %")
    return level


def percentile_interval(draws: npt.ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Central percentile interval of bootstrap `draws` [B] (Efron 1979), as (low, high) in their unit.

    Draws that are not finite (a resample with one class has no AUC) are left out. With fewer than half left
    the remainder is no fair sample and the answer is (nan, nan).

    Raises
    ------
    ValueError
        If `level` is not in (0, 1).
    """
    values = np.asarray(draws, dtype=np.float64)
    finite = values[np.isfinite(values)]
    tail = (1.0 - check_level(level)) / 2.0
    if finite.size == 0 or 2 * finite.size < values.size:
        return math.nan, math.nan
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)


def clopper_pearson(k: int, n: int, *, level: float = 0.95, side: Side = "two-sided") -> tuple[float, float]:
    """Exact binomial limits for the rate behind `k` events in `n` rows (Clopper and Pearson 1934).

    Parameters
    ----------
    k, n : 0 <= k <= n; n = 0 knows nothing and gives (0, 1).
    level : confidence level.
    side : "two-sided" leaves (1 - level) / 2 on each side; "upper" spends it all above and returns (0, high);
        "lower" returns (low, 1).

    Raises
    ------
    ValueError
        If the counts, the level or the side make no sense.
    """
    from scipy.stats import beta

    if not 0 <= k <= n:
        raise ValueError(f"k must lie in 0 .. n, got k={k}, n={n}; pass the event count first, then the row count")
    if side not in ("two-sided", "upper", "lower"):
        raise ValueError(f"side must be 'two-sided', 'upper' or 'lower', got {side!r}")
    tail = (1.0 - check_level(level)) / (2.0 if side == "two-sided" else 1.0)
    low = 0.0 if k == 0 or side == "upper" else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n or side == "lower" else float(beta.ppf(1.0 - tail, k + 1, n - k))
    return low, high


def rows_to_certify(rate: float, *, level: float = 0.95) -> int:
    """Smallest n for which zero events among n rows give a one-sided Clopper-Pearson upper limit <= `rate`.

    With k = 0 the limit is 1 - (1 - level)^(1/n), hence n >= log(1 - level) / log(1 - rate): 59 rows for 5 %,
    299 for 1 %, 2,995 for 0.1 %.

    Raises
    ------
    ValueError
        If `rate` or `level` is not in (0, 1).
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate must lie in (0, 1), got {rate}; write 0.01 for 1 %")
    exact = math.log1p(-check_level(level)) / math.log1p(-rate)
    # Rounding noise must not lift an exact integer (rate = level gives 1) to the next one.
    return max(1, math.ceil(exact * (1.0 - 1e-12)))
