"""Rejected rows in words: what a stage prints of them, and what it says where too little is left to go on."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

SHOWN = 60


def shown(value: object) -> str:
    """The first characters of a raw value, such that every file can hold them."""
    return str(value)[:SHOWN].encode("utf-8", "backslashreplace").decode("utf-8")


def reasons_text(rejected: pd.DataFrame) -> str:
    """Every reason with its count, the most frequent first, and the first row of it: ``2 no label (row 7: ...)``.

    Args:
        rejected: columns row, reason and detail; one row per rejected row.

    Returns:
        "none" where nothing was rejected.
    """
    parts = []
    for reason, count in rejected["reason"].value_counts().items():
        first = rejected[rejected["reason"] == reason].iloc[0]
        parts.append(f"{count} {reason} (row {first['row']}: {first['detail']})")
    return "; ".join(parts) or "none"


def sizes_text(sizes: Mapping[str, int]) -> str:
    """Classes, roles or whatever has a size, each with it: ``safe 12, fire 1``."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
