"""Intervals of counts that hold for questions never seen: split conformal prediction over problems.

Rows of one problem are not exchangeable with rows of another, so that a quantile over rows, as MAPIE takes it, speaks of
more evidence than there is. Here each problem of calib has the same say, and one that is still to come has it, too
(Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data", HCP). The score is the distance on
the scale of log(1 + count): an interval is a factor up and down. Where a kind of setting has problems enough it is
learned on its own rows (Mondrian: Vovk, Gammerman and Shafer 2005, section 4.5), so that coverage holds for each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def kind_of(setting: str) -> str:
    """What a setting is of: ``GPT-4`` of ``GPT-4, 0-Shot``; without a comma the setting itself."""
    return setting.partition(",")[0].strip()


def kinds_of(settings: pd.Series) -> np.ndarray:
    """`kind_of` each setting, object [n]."""
    return settings.fillna("").map(kind_of).to_numpy(dtype=object)


@dataclass(frozen=True)
class Intervals:
    """How far a count lies from its prediction.

    Attributes:
        level: share of the counts that intervals are to hold.
        num_groups: problems of calib.
        pooled: the distance on the scale of log(1 + count) for a setting of no known kind; None: too few problems.
        kinds: kind of setting -> its own distance.
    """

    level: float
    num_groups: int
    pooled: float | None
    kinds: dict[str, float]

    def limits(self, predicted: npt.ArrayLike, kinds: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest whole count of each interval, float64 [n] each; NaN where none can be given.

        Args:
            predicted: counts [n].
            kinds: of the rows' settings [n].
        """
        values = np.asarray(predicted, dtype=np.float64)
        pooled = np.nan if self.pooled is None else self.pooled
        reach = np.array([self.kinds.get(kind, pooled) for kind in np.asarray(kinds).tolist()], dtype=np.float64)
        # The tolerance: what a logarithm and back lose must not cut a whole number off.
        low = np.ceil(np.expm1(np.log1p(values) - reach) - 1e-9)
        high = np.floor(np.expm1(np.log1p(values) + reach) + 1e-9)
        nearest = np.round(values)
        return np.maximum(np.minimum(low, nearest), 1.0), np.maximum(np.maximum(high, nearest), 1.0)

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``intervals_from_json`` reads them back."""
        return asdict(self)


def intervals_from_json(record: Mapping[str, Any]) -> Intervals:
    """The intervals that ``Intervals.to_json`` wrote."""
    pooled = None if record["pooled"] is None else float(record["pooled"])
    kinds = {str(kind): float(reach) for kind, reach in record["kinds"].items()}
    return Intervals(float(record["level"]), int(record["num_groups"]), pooled, kinds)


def grouped_quantile(scores: npt.ArrayLike, groups: npt.ArrayLike, *, level: float) -> float:
    """The smallest score such that at least ``level`` lies at or below it; inf where groups are too few to say.

    Each of the K groups weighs 1 / (K + 1), shared by its rows; the rest stands at infinity (Lee, Barber and Willett 2023,
    equation 7). With a row a group it is the quantile of split conformal prediction. It takes ``level / (1 - level)``
    groups: nine for 0.9.
    """
    values = np.asarray(scores, dtype=np.float64)
    _, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(1.0 / (sizes[codes] * (sizes.size + 1.0))[order])
    reached = int(np.searchsorted(mass, level - 1e-9))
    return float(values[order][reached]) if reached < values.size else float("inf")


def fit_intervals(
    counts: npt.ArrayLike, predicted: npt.ArrayLike, kinds: np.ndarray, groups: np.ndarray, *, level: float
) -> Intervals:
    """Intervals from calib: its counts, what was predicted of them, the kinds of setting and the groups, [n] each."""
    scores = np.abs(np.log1p(np.asarray(counts)) - np.log1p(np.asarray(predicted)))
    own = {}
    for kind in sorted(set(kinds.tolist())):
        rows = kinds == kind
        own[kind] = grouped_quantile(scores[rows], groups[rows], level=level)
    pooled = grouped_quantile(scores, groups, level=level)
    finite = {kind: reach for kind, reach in own.items() if np.isfinite(reach)}
    return Intervals(level, len(set(groups.tolist())), pooled if np.isfinite(pooled) else None, finite)
