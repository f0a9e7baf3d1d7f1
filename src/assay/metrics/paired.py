"""One system against another on the same rows and groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from assay.metrics.binary import Resampled
from assay.metrics.intervals import MIN_GROUPS, jackknife_interval, max_t_quantile


def gain(ours: Resampled, theirs: Resampled, name: str, *, key: str, quantile: float | None = None) -> dict[str, float]:
    """Keys ``<key>``, ``_low``, ``_high``: what one system has over another in metric ``name``.

    Both were measured on the same rows, so that the interval is that of the difference; ``quantile`` as in
    `jackknife_interval`.
    """
    value, left_out = ours.point[name] - theirs.point[name], ours.left_out[name] - theirs.left_out[name]
    low, high = jackknife_interval(value, left_out, df=ours.df, scale="difference", quantile=quantile)
    return {key: value, f"{key}_low": low, f"{key}_high": high}


def gains_together(pairs: Mapping[str, tuple[Resampled, Resampled, str]]) -> dict[str, float]:
    """Key -> (ours, theirs, metric) as a `gain` each, with intervals that hold all of them at once (`max_t_quantile`).

    For gains that are looked at in one breath: of k wrong ones, one would else look right far more often than in 5 %.
    All systems were measured on the same rows.
    """
    first = next(iter(pairs.values()))[0]
    quantile = None
    if first.n_groups >= MIN_GROUPS:
        left_out = [ours.left_out[name] - theirs.left_out[name] for ours, theirs, name in pairs.values()]
        quantile = max_t_quantile(np.stack(left_out), df=first.df)
    found: dict[str, float] = {}
    for key, pair in pairs.items():
        found |= gain(*pair, key=key, quantile=quantile)
    return found
