"""Counts as classes: bins of equal width or of equal mass, fitted on train and kept as edges.

Bins are open on the left and closed on the right, the first one closed on both sides, as in ``pandas.cut`` and
``pandas.qcut``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Kind = Literal["equal_width", "quantile"]


@dataclass(frozen=True)
class Bins:
    """Classes over counts.

    Attributes:
        kind: equal_width or quantile.
        edges: rising, one more than there are bins; the outer two are the smallest and largest count of train.
        shares: share of train in each bin.
        means: mean count of train in each bin; the bin's middle where it is empty.
        note: what was not as asked for, or empty.
    """

    kind: Kind
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    means: tuple[float, ...]
    note: str = ""

    @property
    def num_bins(self) -> int:
        """How many classes there are."""
        return len(self.edges) - 1

    def assign(self, counts: npt.ArrayLike) -> np.ndarray:
        """Bin of each count, int64 [n]; counts outside the range of train fall into the outer bins."""
        values = np.asarray(counts, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("counts to bin must be finite numbers; drop the missing ones first")
        return cut(values, self.edges[1:-1])

    def num_outside(self, counts: npt.ArrayLike) -> int:
        """How many counts lie outside the range of train."""
        values = np.asarray(counts, dtype=np.float64)
        return int(((values < self.edges[0]) | (values > self.edges[-1])).sum())

    def expected(self, probs: npt.ArrayLike) -> np.ndarray:
        """Expected count float64 [n] from probabilities [n, num_bins]: the bins' train means, weighted."""
        return np.asarray(probs, dtype=np.float64) @ np.asarray(self.means)

    def whole_range(self, index: int) -> tuple[int, int]:
        """Smallest and largest whole count of a bin."""
        low = int(np.ceil(self.edges[0])) if index == 0 else int(np.floor(self.edges[index])) + 1
        return low, int(np.floor(self.edges[index + 1]))

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``bins_from_json`` reads them back."""
        return asdict(self)


def matched_cuts(scores: npt.ArrayLike, shares: npt.ArrayLike) -> np.ndarray:
    """Cuts float64 [num_bins - 1] between bins such that scores fall into each bin as often as ``shares`` says.

    Predictions of a mean are drawn to the middle: read through the bins' own edges, they hardly ever name an outer bin.
    Cuts at the quantiles of the predictions undo that and keep their order (quantile matching, as in Cannon et al. 2015).
    """
    levels = np.cumsum(np.asarray(shares, dtype=np.float64))[:-1]
    return np.quantile(np.asarray(scores, dtype=np.float64), np.clip(levels, 0, 1))


def cut(scores: npt.ArrayLike, cuts: npt.ArrayLike) -> np.ndarray:
    """Bin of each score, int64 [n]; a score on a cut belongs to the bin below it."""
    return np.searchsorted(np.asarray(cuts), np.asarray(scores, dtype=np.float64), side="left").astype(np.int64)


def bins_from_json(record: dict[str, Any]) -> Bins:
    """The bins that ``Bins.to_json`` wrote."""
    lists = {name: tuple(float(v) for v in record[name]) for name in ("edges", "shares", "means")}
    return Bins(kind=record["kind"], note=str(record["note"]), **lists)


def _checked(counts: npt.ArrayLike) -> np.ndarray:
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError("counts must be a non-empty list of finite numbers")
    if values.min() == values.max():
        raise ValueError(f"all {values.size} counts are {values[0]:g}: there is nothing to tell apart")
    return values


def _described(kind: Kind, edges: np.ndarray, values: np.ndarray, *, notes: list[str]) -> Bins:
    bare = Bins(kind, tuple(map(float, edges)), (), ())
    index = bare.assign(values)
    sizes = np.bincount(index, minlength=bare.num_bins)
    sums = np.bincount(index, weights=values, minlength=bare.num_bins)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), (edges[:-1] + edges[1:]) / 2)
    empty = [str(number) for number in np.flatnonzero(sizes == 0)]
    if empty:
        notes = [*notes, f"bin(s) {', '.join(empty)} hold no count of train: no model can learn them"]
    shares = sizes / values.size
    return Bins(kind, bare.edges, tuple(map(float, shares)), tuple(map(float, means)), "; ".join(notes))


def equal_width_bins(counts: npt.ArrayLike, *, num_bins: int) -> Bins:
    """Bins of equal width over the range of ``counts``, as ``pandas.cut`` makes them; empty ones are named in ``note``.

    Raises:
        ValueError: no counts, a count that is not finite, or all alike.
    """
    values = _checked(counts)
    inner = np.asarray(pd.cut(pd.Series(values), bins=num_bins, retbins=True)[1], dtype=np.float64)[1:-1]
    # pandas widens the range by 0.1 % to take in the smallest value; assign() takes it in anyway.
    edges = np.concatenate([[values.min()], inner, [values.max()]])
    return _described("equal_width", edges, values, notes=[])


def quantile_bins(counts: npt.ArrayLike, *, num_bins: int, ties: Literal["merge", "error"]) -> Bins:
    """Bins of equal mass, as ``pandas.qcut`` makes them.

    Where many counts are equal, two quantiles may meet: ``merge`` leaves fewer bins and says so in ``note``.

    Raises:
        ValueError: as `equal_width_bins`; quantiles meet and ``ties`` is error; or fewer than two bins are left.
    """
    values = _checked(counts)
    edges = pd.qcut(pd.Series(values), q=num_bins, retbins=True, duplicates="drop")[1]
    left = len(edges) - 1
    if left < num_bins and ties == "error":
        raise ValueError(
            f"prepare_counts.quantile_bins {num_bins}: tied counts leave only {left} different bins; "
            "ask for fewer, or set prepare_counts.ties to merge"
        )
    if left < 2:
        raise ValueError(
            f"prepare_counts.quantile_bins {num_bins}: ties leave a single bin; the counts are almost all equal"
        )
    notes = [f"ties merged {num_bins} quantile bins into {left}"] if left < num_bins else []
    return _described("quantile", np.asarray(edges, dtype=np.float64), values, notes=notes)
