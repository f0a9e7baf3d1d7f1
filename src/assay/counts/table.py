"""Questions with their counts: reading, checking, grouping into roles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

ROLES = ("train", "val", "test")
REJECTED = ["row", "text", "reason", "detail"]
READERS = {".csv": "CSV", ".jsonl": "JSON lines", ".parquet": "parquet"}
SHOWN = 60
# What stands for a missing value in a CSV file of counts.
MISSING = ("", "nan", "NaN", "NA", "null")
READ_ERRORS = (ValueError, OSError)


def read_frame(path: Path, *, missing: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV, JSONL or parquet file, by suffix: every value as it stands there, missing ones as None.

    Args:
        missing: texts that stand for a missing value in CSV, which has no other way to say it.

    Raises:
        ValueError, OSError: not readable (`READ_ERRORS`).
    """
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, na_values=list(missing))
    elif path.suffix == ".jsonl":
        frame = pd.read_json(path, lines=True, dtype=False)
    else:
        frame = pd.read_parquet(path)
    return frame.astype(object).where(frame.notna(), None)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV, JSONL or parquet file with text and counts, and optionally setting and group.

    Returns:
        Columns text, setting, counts, group; every value as it stands in the file, missing ones as None.

    Raises:
        ValueError: no such file, another suffix, unreadable, or a column is missing.
    """
    if not path.is_file():
        raise ValueError(
            f"fetch_counts.source {str(path)!r}: no such file; give packages or a file with text and counts"
        )
    if path.suffix not in READERS:
        raise ValueError(f"fetch_counts.source {path}: suffix {path.suffix!r} is not known; use {', '.join(READERS)}")
    try:
        frame = read_frame(path, missing=MISSING)
    except READ_ERRORS as error:
        raise ValueError(f"fetch_counts.source {path} is not readable as {READERS[path.suffix]}: {error}") from error
    missing = sorted({"text", "counts"} - set(frame.columns))
    if missing:
        raise ValueError(f"fetch_counts.source {path} lacks the column(s) {missing}; it has {list(frame.columns)}")
    for column in ("setting", "group"):
        if column not in frame:
            frame[column] = None
    return frame[["text", "setting", "counts", "group"]].reset_index(drop=True)


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
    """Usable rows and refused ones.

    Returns:
        Columns sample_id, text, counts (int64), group; and `REJECTED`, row counted from 1. Rows without a group whose
        text is the same form one group. Rows equal in text and count are told apart by how often they occurred before.
    """
    kept, refused = [], []
    seen: dict[tuple[str, int], int] = {}
    columns = (table[name] for name in ("text", "setting", "counts", "group"))
    for number, (question, setting, given, named) in enumerate(zip(*columns, strict=True), start=1):
        problem = _problem(question, given, max_count=max_count)
        if problem is not None:
            refused.append((number, str(question or "")[:SHOWN], *problem))
            continue
        text, count = full_text(question, setting), int(float(given))
        copy = seen[text, count] = seen.get((text, count), -1) + 1
        digest = hashlib.sha256(f"{count}\n{copy}\n{text}".encode()).hexdigest()[:16]
        group = str(named) if named is not None else hashlib.sha256(question.encode()).hexdigest()[:16]
        kept.append((digest, text, count, group))
    rows = pd.DataFrame(kept, columns=["sample_id", "text", "counts", "group"]).astype({"counts": "int64"})
    return rows, pd.DataFrame(refused, columns=REJECTED)


def assign_roles(groups: pd.Series, shares: dict[str, float], *, seed: int) -> np.ndarray:
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
