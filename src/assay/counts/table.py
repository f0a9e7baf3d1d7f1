"""Questions with their counts: checking, and grouping into roles."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from assay.counts.question import full_text, text_form, text_problem
from assay.data.groups import join_groups

ROLES = ("train", "val", "calib", "test")
REJECTED = ["row", "text", "reason", "detail"]
SHOWN = 60
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
MAX_INT64 = 2**63 - 1


def whole_count(value: Any, *, max_count: int | None) -> int | tuple[str, str]:
    """The count that a value of a table means, or why it is none: (reason, detail).

    A whole, finite number from 1 to ``max_count`` (None: what 64 bits hold), as a number or as a text in decimal digits:
    17, 17.0, " 17 ", "1.7e1". Nothing else is a number here: not True, "1_000", "1,000", "0x10", "inf" or "nan".
    """
    if value is None:
        return "no count", ""
    shown = repr(value)[:SHOWN]
    # By way of its text, since a float would round what it can't hold.
    text = str(value).strip()
    if isinstance(value, bool) or not NUMBER.fullmatch(text):
        return "count is no number", shown
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond all sense
        return "count is no number", shown
    if number != number.to_integral_value():
        return "count is not whole", shown
    if number < 1:
        return "count below 1", shown
    if number > (limit := max_count or MAX_INT64):
        return "count above max_count" if max_count else "count too large", f"{shown}; the largest is {limit}"
    return int(number)


def check_rows(
    table: pd.DataFrame, *, max_count: int | None, problems: Sequence[str | None] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable rows and rejected ones.

    Args:
        table: columns text, setting, counts and group.
        problems: for each row, why the file itself made it unreadable, or None; None for no such row.

    Returns:
        Columns sample_id, text, setting ("" for none), counts (int64), group; and `REJECTED`, row counted from 1. Rows
        of the same text (`text_form`) are one group, whatever groups they name. Rows equal in text and count are told apart
        by how often they occurred before.
    """
    kept, rejected, forms = [], [], []
    seen: dict[tuple[str, int], int] = {}
    columns = [table[name] for name in ("text", "setting", "counts", "group")]
    entries = zip(*columns, problems or [None] * len(table), strict=True)
    for number, (question, setting, given, named, problem) in enumerate(entries, start=1):
        unusable = ("unreadable", problem) if problem else text_problem(question)
        count = unusable or whole_count(given, max_count=max_count)
        if isinstance(count, tuple):
            rejected.append((number, str(question or "")[:SHOWN], *count))
            continue
        text = full_text(question, setting)
        copy = seen[text, count] = seen.get((text, count), -1) + 1
        digest = hashlib.sha256(f"{count}\n{copy}\n{text}".encode()).hexdigest()[:16]
        form = text_form(question)
        group = str(named or "").strip() or hashlib.sha256(form.encode()).hexdigest()[:16]
        forms.append(form)
        kept.append((digest, text, (setting or "").strip(), count, group))
    rows = pd.DataFrame(kept, columns=["sample_id", "text", "setting", "counts", "group"]).astype({"counts": "int64"})
    rows["group"] = join_groups(list(rows["group"]), pd.factorize(np.array(forms, dtype=object))[0])
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
    for role in ("test", "val", "calib"):
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
