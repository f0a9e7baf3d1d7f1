"""One system against another on the same rows and groups."""

from __future__ import annotations

from collections.abc import Mapping

from assay.metrics.binary import Resampled
from assay.metrics.intervals import jackknife_interval


def gain(ours: Resampled, theirs: Resampled, name: str, *, key: str) -> dict[str, float]:
    """Keys ``<key>``, ``_low``, ``_high``: what one system has over another in metric ``name``.

    Both were measured on the same rows, so that the interval is that of the difference.
    """
    value, left_out = ours.point[name] - theirs.point[name], ours.left_out[name] - theirs.left_out[name]
    low, high = jackknife_interval(value, left_out, df=ours.df, scale="difference")
    return {key: value, f"{key}_low": low, f"{key}_high": high}


def verdict(report: Mapping[str, float], key: str) -> str:
    """In words what the interval of a `gain` says; an undefined one tells nothing apart."""
    if report[f"{key}_low"] > 0:
        return "better than"
    return "worse than" if report[f"{key}_high"] < 0 else "not told apart from"


def pays(report: Mapping[str, float], key: str) -> str:
    """In words whether what a `gain` measures is worth having."""
    return {"better than": "pays", "worse than": "harms"}.get(verdict(report, key), "is not shown to pay")


def gain_text(report: Mapping[str, float], key: str, *, digits: int = 3) -> str:
    """``gain +0.041 [+0.012, +0.070]``."""
    value, low, high = (f"{report[f'{key}{end}']:+.{digits}f}" for end in ("", "_low", "_high"))
    return f"gain {value} [{low}, {high}]"
