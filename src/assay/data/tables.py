"""Tables that users bring and take away: CSV, JSON lines and parquet, by suffix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from assay.core.io import atomic_path, write_csv, write_parquet

READERS = {".csv": "CSV", ".jsonl": "JSON lines", ".parquet": "parquet"}
READ_ERRORS = (ValueError, OSError)
# What stands for a missing value in a CSV file of numbers or labels.
MISSING = ("", "nan", "NaN", "NA", "null")


def check_utf8(path: Path) -> None:
    """Raise a ValueError for a text file that is not UTF-8, naming the line and the byte, both counted from 1."""
    start = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"line {number}, byte {start + error.start + 1} is not UTF-8 ({error.reason}); convert the file, say "
                    "with iconv -f GB18030 -t UTF-8"
                ) from None
            start += len(line)


def read_frame(path: Path, *, missing: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV, JSONL or parquet file, by suffix: every value as it stands there, missing ones as None.

    ``missing`` are the texts that stand for a missing value in CSV. Raises `READ_ERRORS` where it is not readable.
    """
    if path.suffix != ".parquet":
        check_utf8(path)
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, na_values=list(missing))
    elif path.suffix == ".jsonl":
        frame = pd.read_json(path, lines=True, dtype=False)
    else:
        frame = pd.read_parquet(path)
    return frame.astype(object).where(frame.notna(), None)


def read_source(
    path: Path, *, field: str, columns: Sequence[str], optional: Sequence[str] = (), missing: Sequence[str] = ()
) -> pd.DataFrame:
    """The user's own table, named by the parameter ``field``: ``columns`` and then ``optional`` (None if not there).

    Raises:
        ValueError: no such file, another suffix, unreadable, or a column is missing.
    """
    if not path.is_file():
        raise ValueError(f"{field} {str(path)!r}: no such file; give packages or a file with {' and '.join(columns)}")
    if path.suffix not in READERS:
        raise ValueError(f"{field} {path}: suffix {path.suffix!r} is not known; use {', '.join(READERS)}")
    try:
        frame = read_frame(path, missing=missing)
    except READ_ERRORS as error:
        raise ValueError(f"{field} {path} is not readable as {READERS[path.suffix]}: {error}") from error
    lacking = sorted(set(columns) - set(frame.columns))
    if lacking:
        raise ValueError(f"{field} {path} lacks the column(s) {lacking}; it has {list(frame.columns)}")
    for column in optional:
        if column not in frame:
            frame[column] = None
    return frame[[*columns, *optional]].reset_index(drop=True)


def read_inputs(path: Path | None, *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Column text, and ``optional`` ones, of a table, or of a text file (None: standard input) with a text per line.

    Raises:
        ValueError: no such file, unreadable, or a table without a column text.
    """
    try:
        if path is None or path.suffix not in READERS:
            if path is not None:
                check_utf8(path)
            content = sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
            # Not splitlines, to which a line separator within a text (U+2028) is an end of line.
            lines = content.removesuffix("\n").split("\n") if content else []
            frame = pd.DataFrame({"text": lines}, dtype=object)
        else:
            frame = read_frame(path)
    except READ_ERRORS as error:
        raise ValueError(f"{path or 'standard input'} can't be read: {error}") from error
    if "text" not in frame:
        raise ValueError(f"{path} has no column text; it has {list(frame.columns)}")
    return frame.assign(**{name: frame.get(name) for name in optional})[["text", *optional]].astype(object)


def write_rows(rows: pd.DataFrame, output: Path) -> None:
    """Write rows as CSV, JSON lines or parquet, by suffix; whole or not at all."""
    suffix = output.suffix.lower()
    if suffix == ".csv":
        write_csv(output, rows)
    elif suffix == ".parquet":
        write_parquet(output, rows)
    else:
        with atomic_path(output) as temporary:
            rows.to_json(temporary, orient="records", lines=True, force_ascii=False)
