"""Questions with their counts: checking, and grouping into roles."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

ROLES = ("train", "val", "test")
REJECTED = ["row", "text", "reason", "detail"]
SHOWN = 60


def full_text(question: str, setting: str | None) -> str:
    """What a model reads: the setting that produces the answer first, so that truncation never cuts it."""
    return f"{setting.strip()}: {question.strip()}" if setting and setting.strip() else question.strip()


def _problem(text: Any, count: Any, *, max_count: int | None) -> tuple[str, str] | None:
    """Why a row can't be used: (reason, detail), or None."""
    if not isinstance(text, str) or not text.strip():
        return "empty text", ""
    if count is None:
        return "no count", ""
    if isinstance(count, bool):
        return "count is no number", repr(count)
    value = pd.to_numeric(count, errors="coerce")  # a number written as text, say "17", is a number
    if not np.isfinite(value):
        return "count is no number", repr(count)[:SHOWN]
    if value != np.floor(value):
        return "count is not whole", repr(count)[:SHOWN]
    if value < 1:
        return "count below 1", f"{value:.0f}"
    if max_count is not None and value > max_count:
        return "count above max_count", f"{value:.0f}"
    return None


def check_rows(table: pd.DataFrame, *, max_count: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable rows and rejected ones.

    Returns:
        Columns sample_id, text, setting ("" for none), counts (int64), group; and `REJECTED`, row counted from 1. Rows
        without a group whose text is the same form one group. Rows equal in text and count are told apart by how often
        they occurred before.
    """
    kept, rejected = [], []
    seen: dict[tuple[str, int], int] = {}
    columns = (table[name] for name in ("text", "setting", "counts", "group"))
    for number, (question, setting, given, named) in enumerate(zip(*columns, strict=True), start=1):
        problem = _problem(question, given, max_count=max_count)
        if problem is not None:
            rejected.append((number, str(question or "")[:SHOWN], *problem))
            continue
        text, count = full_text(question, setting), int(float(given))
        copy = seen[text, count] = seen.get((text, count), -1) + 1
        digest = hashlib.sha256(f"{count}\n{copy}\n{text}".encode()).hexdigest()[:16]
        group = str(named) if named is not None else hashlib.sha256(question.encode()).hexdigest()[:16]
        kept.append((digest, text, (setting or "").strip(), count, group))
    rows = pd.DataFrame(kept, columns=["sample_id", "text", "setting", "counts", "group"]).astype({"counts": "int64"})
    return rows, pd.DataFrame(rejected, columns=REJECTED)


def split_groups(groups: pd.Series, shares: dict[str, float], *, seed: int) -> np.ndarray:
    """Role of every row, object [n]; no group stands in two roles.

    Raises:
        ValueError: fewer groups than roles.
    """
    if groups.nunique() < len(ROLES):
        raise ValueError(
            f"{groups.nunique()} group(s) can't be split into {', '.join(ROLES)}; more questions are needed"
        )
    roles = np.full(len(groups), "train", dtype=object)
    rest = np.arange(len(groups))
    left = 1.0
    for role in ("test", "val"):
        splitter = GroupShuffleSplit(n_splits=1, test_size=shares[role] / left, random_state=seed)
        others, taken = next(splitter.split(rest, groups=groups.iloc[rest]))
        roles[rest[taken]] = role
        rest, left = rest[others], left - shares[role]
    return roles


def limit_rows(rows: pd.DataFrame, limit: int | None, *, seed: int) -> pd.DataFrame:
    """At most ``limit`` rows of each group, drawn at random, in the order they stand."""
    if limit is None:
        return rows
    drawn = rows.sample(frac=1.0, random_state=seed).groupby("group", sort=False).head(limit)
    return rows.loc[sorted(drawn.index)]
