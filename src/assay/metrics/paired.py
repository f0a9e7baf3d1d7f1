"""One system against another on the same rows and groups."""

from __future__ import annotations

from assay.metrics.binary import Resampled
from assay.metrics.intervals import jackknife_interval


def gain(ours: Resampled, theirs: Resampled, name: str, *, key: str) -> dict[str, float]:
    """Keys ``<key>``, ``_low``, ``_high``: what one system has over another in metric ``name``.

    Both were measured on the same rows, so that the interval is that of the difference.
    """
    value, left_out = ours.point[name] - theirs.point[name], ours.left_out[name] - theirs.left_out[name]
    low, high = jackknife_interval(value, left_out, df=ours.df, scale="difference")
    return {key: value, f"{key}_low": low, f"{key}_high": high}
