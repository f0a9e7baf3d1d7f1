"""Texts with their labels: what looks the same is written the same, and every row that can't be used has a reason."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import pandas as pd

UnicodeForm = Literal["NFKC", "NFC", "none"]

ROWS = ["sample_id", "text", "label"]
REJECTED = ["row", "text", "reason", "detail"]
SHOWN = 60


def _kept(character: str) -> bool:
    """False for control and format characters, except white space (Unicode calls line breaks and tabs controls)."""
    return character.isspace() or unicodedata.category(character) not in ("Cc", "Cf")


def clean(text: str, *, unicode_form: UnicodeForm) -> str:
    """A text as models read it; cleaning twice is cleaning once.

    Control and format characters (Unicode categories Cc and Cf, among them zero-width spaces and joiners, byte order
    marks and soft hyphens) are dropped, each run of white space, line breaks included, becomes one space, and none is
    left at the ends.

    Args:
        unicode_form: the normalisation of Unicode Standard Annex 15. NFKC also makes full-width letters, digits and
            punctuation half-width; NFC only unites letters with their marks; ``none`` leaves every character as it is.

    Raises:
        ValueError: a surrogate, which stands for no character and can't be written as UTF-8.
    """
    if not text.isprintable():  # nothing is to be dropped from printable text; this is quick, and most texts are
        for position, character in enumerate(text, start=1):
            if "\ud800" <= character <= "\udfff":
                raise ValueError(f"the surrogate U+{ord(character):04X} stands at character {position}; decode it anew")
        # Before normalisation: a dropped character may have stood between a letter and its mark.
        text = "".join(filter(_kept, text))
    if unicode_form != "none":
        text = unicodedata.normalize(unicode_form, text)
    return " ".join(text.split())


def _label(value: Any) -> str:
    """A label as text, "" for none: 1, 1.0 (an integer column with gaps) and " 1 " are the label 1.

    Raises:
        ValueError: a surrogate.
    """
    if isinstance(value, str):
        return clean(value, unicode_form="none")
    if isinstance(value, Integral):
        return str(value)
    if isinstance(value, Real) and math.isfinite(number := float(value)):
        return str(int(number)) if number.is_integer() else str(value)
    return ""


def writable(value: Any) -> str:
    """A value as text that every file can hold: surrogates are escaped."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _shown(value: Any) -> str:
    """The first characters of a raw value."""
    return "" if value is None else writable(str(value)[:SHOWN])[:SHOWN]


def _read(
    text: Any, label: Any, *, unicode_form: UnicodeForm, classes: Sequence[str] | None
) -> tuple[str, str] | tuple[str, str, str]:
    """(cleaned text, label) of a row by itself, or ("", reason, detail)."""
    if not isinstance(text, str):
        return "", "no text", "" if text is None else f"{type(text).__name__} {_shown(text)}"[:SHOWN]
    try:
        cleaned, named = clean(text, unicode_form=unicode_form), _label(label)
    except ValueError as error:
        return "", "invalid text", str(error)
    if not cleaned:
        return "", "empty text", "nothing is left after cleaning" if text else ""
    if not named:
        return "", "no label", "" if label is None or label == "" else repr(label)[:SHOWN]
    if classes is not None and named not in classes:
        return "", "unknown label", f"{_shown(named)!r}; the classes are {', '.join(classes)}"
    return cleaned, named


def check_rows(
    table: pd.DataFrame,
    *,
    unicode_form: UnicodeForm,
    classes: Sequence[str] | None,
    problems: Sequence[str | None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable rows and rejected ones, each in the order of the table.

    A text that occurs with different labels is rejected everywhere, since nobody can say which label is right; of equal
    rows the first is kept. Rows rejected for another reason play no part in this.

    Args:
        table: columns text and label, raw values of any type.
        problems: for each row, why the file itself made it unreadable, or None; None for no such row.
        classes: the labels that there may be; None for any.

    Returns:
        Columns `ROWS`, sample_id being the first 16 hexadecimal digits of the cleaned text's SHA-256; and `REJECTED`, row
        counted from 1 and text as it came, cut to 60 characters. Reasons: unreadable, no text, invalid text, empty
        text, no label, unknown label, two labels, exact duplicate.
    """
    read = [
        ("", "unreadable", problem) if problem else _read(text, label, unicode_form=unicode_form, classes=classes)
        for text, label, problem in zip(table["text"], table["label"], problems or [None] * len(table), strict=True)
    ]
    labels: dict[str, set[str]] = {}
    for text, label, *problem in read:
        if not problem:
            labels.setdefault(text, set()).add(label)
    kept, rejected = [], []
    first: dict[str, int] = {}
    for number, (raw, (text, label, *problem)) in enumerate(zip(table["text"], read, strict=True), start=1):
        if problem:
            rejected.append((number, _shown(raw), label, problem[0]))
        elif len(labels[text]) > 1:
            rejected.append((number, _shown(raw), "two labels", ", ".join(sorted(labels[text]))))
        elif text in first:
            rejected.append((number, _shown(raw), "exact duplicate", f"of row {first[text]}"))
        else:
            first[text] = number
            kept.append((hashlib.sha256(text.encode()).hexdigest()[:16], text, label))
    return pd.DataFrame(kept, columns=ROWS, dtype=object), pd.DataFrame(rejected, columns=REJECTED)


def unlabelled_rows(
    table: pd.DataFrame, *, unicode_form: UnicodeForm, problems: Sequence[str | None], taken: Collection[str]
) -> tuple[pd.DataFrame, int]:
    """Usable texts (columns sample_id and text) that are none of the ``taken`` ones, and how many rows are left out.

    A text that is like a labelled one, but not the same, stays: no label of it is known or told.
    """
    kept, rejected = check_rows(table.assign(label="none"), unicode_form=unicode_form, classes=None, problems=problems)
    fresh = kept[~kept["text"].isin(set(taken))]
    return fresh[["sample_id", "text"]].reset_index(drop=True), len(rejected) + len(kept) - len(fresh)
