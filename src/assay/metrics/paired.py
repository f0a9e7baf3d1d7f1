"""One system against another on the same resamples."""

from __future__ import annotations

from assay.metrics.binary import Resampled
from assay.metrics.intervals import percentile_interval


def gain(ours: Resampled, theirs: Resampled, name: str, *, key: str) -> dict[str, float]:
    """Keys ``<key>``, ``_low``, ``_high``: what one system has over another in metric ``name``.

    Both were resampled with the same groups, number and seed, so that the interval is that of the difference.
    """
    low, high = percentile_interval(ours.draws[name] - theirs.draws[name])
    return {key: ours.point[name] - theirs.point[name], f"{key}_low": low, f"{key}_high": high}
