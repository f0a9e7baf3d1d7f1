"""Tables that users bring and take away: CSV, JSON lines and parquet, by suffix."""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from reprlib import Repr
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from assay.core.io import atomic_path, write_csv, write_parquet
from assay.data.delimited import parse_delimited
from assay.data.encodings import MAX_BYTES, decode_text, read_bytes, read_text, split_lines
from assay.data.json_lines import read_json_lines
from assay.data.parquet_tables import read_columns
from assay.data.picture_kinds import NotRegular

READ_ERRORS = (ValueError, OSError)
# The column, there only where it is needed, that says of a row why it can't be used; other values of such a row are None.
UNREADABLE = "(unreadable)"
SHEET = "save the sheet as CSV UTF-8"
UNPACK = "unpack it and name the file within"
CONVERT = "write the table as CSV, JSON lines or parquet"
# More than any table of texts or pictures has; each costs some time, however short it is.
MAX_COLUMNS = 10_000
# Bytes of a value that is missing, in the lists and the table on the way.
GAP_BYTES = 24
SHOWN = 120
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = SHOWN
# White space, and a byte order mark that came in a file put together from others.
NAME_ENDS = string.whitespace + "\u3000\u00a0\ufeff"
# What no line of text ever is, and what to do about it.
REFUSED = (
    dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".et"), SHEET)
    | dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz"), UNPACK)
    | dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".h5", ".hdf5", ".npy", ".npz"), CONVERT)
    | dict.fromkeys((".pkl", ".pickle", ".sqlite", ".db", ".dta", ".sav", ".xml", ".html", ".pdf", ".docx"), CONVERT)
)


def _delimited(path: Path, delimiter: str, *, max_bytes: int) -> pd.DataFrame:
    header, records = parse_delimited(read_text(path, max_bytes=max_bytes), delimiter=delimiter)
    columns = zip(*records, strict=True) if records else [()] * len(header)
    # A column without a name, which an end-of-line comma or an index makes, can't be asked for.
    named = [(name, values) for name, values in zip(header, columns, strict=True) if name.strip(NAME_ENDS)]
    return _frame((name, [value or None for value in values]) for name, values in named)


def _read_json_lines(path: Path, *, max_bytes: int) -> pd.DataFrame:
    lines = read_json_lines(path, max_bytes=max_bytes)
    records = [record if isinstance(record, dict) else {} for _, record in lines]
    names = list(dict.fromkeys(name for record in records for name in record))
    # Lines of one key each, all different, would make a table of the square of their number.
    if GAP_BYTES * (len(names) * len(records) - sum(map(len, records))) > max_bytes:
        told = f"{len(names)} different keys in {len(records)} records, most of them missing from most"
        raise ValueError(f"{told}: the table has more than {max_bytes} bytes (limits.table_bytes, --max-bytes)")
    problems = [None if isinstance(record, dict) else record for _, record in lines]
    if lines and all(problems):
        raise ValueError(f"no line is a JSON object: {problems[0]}")
    frame = _frame((name, [record.get(name) for record in records]) for name in names)
    # Rows without a single key are rows, too.
    frame = frame.reindex(range(len(lines))).astype(object)
    return frame.assign(**{UNREADABLE: pd.Series(problems, dtype=object)}) if any(problems) else frame


def _read_parquet(path: Path, columns: Collection[str] | None = None, *, max_bytes: int) -> pd.DataFrame:
    """The ``columns`` alone, None for all: others may be large, or of types that have no Python values."""
    found, rows = read_columns(path, columns=columns, ends=NAME_ENDS, max_bytes=max_bytes)
    return _frame(found).reindex(range(rows)).astype(object)


def _frame(columns: Iterable[tuple[str, list[Any]]]) -> pd.DataFrame:
    """A table of objects; NaN, which some writers mean by a missing value, is None.

    Raises:
        ValueError: a name stands there twice, or there are more than `MAX_COLUMNS`.
    """
    found: dict[str, list[Any]] = {}
    for given, values in columns:
        if (name := given.strip(NAME_ENDS)) in found:
            raise ValueError(f"the column name {name!r} stands there twice; rename one")
        if len(found) == MAX_COLUMNS:
            raise ValueError(f"more than {MAX_COLUMNS} columns; leave out those that nothing reads")
        found[name] = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    return pd.DataFrame(found, dtype=object)


READERS: dict[str, tuple[str, Callable[..., pd.DataFrame]]] = {
    ".csv": ("CSV", partial(_delimited, delimiter=",")),
    ".tsv": ("TSV", partial(_delimited, delimiter="\t")),
    ".jsonl": ("JSON lines", _read_json_lines),
    ".ndjson": ("JSON lines", _read_json_lines),
    ".json": ("JSON", _read_json_lines),
    ".parquet": ("parquet", _read_parquet),
}


def read_frame(path: Path, *, columns: Collection[str] | None = None, max_bytes: int = MAX_BYTES) -> pd.DataFrame:
    """A CSV, TSV, JSON lines, JSON or parquet file, by suffix: objects, each value as it stands there, None for missing.

    In CSV and TSV only an empty field is missing: ``NA``, ``null`` and the like are texts. A blank line is a row of
    missing values. A line of JSON that holds no object is a row with its reason, which names the line, in the column
    `UNREADABLE`; where every row can be read there is no such column. Of parquet only ``columns`` are read, if named.

    Raises:
        ValueError, OSError (`READ_ERRORS`): not a table that can be read, or one of more than ``max_bytes`` as it lies there
            or, parquet, as it unpacks; what it is and what to do is told.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        how = REFUSED.get(suffix, f"use {', '.join(READERS)}")
        raise ValueError(f"suffix {path.suffix!r} is not known; {how}")
    name, read = READERS[suffix]
    try:
        chosen = (columns,) if suffix == ".parquet" else ()
        return read(path, *chosen, max_bytes=max_bytes)
    except READ_ERRORS as error:
        raise ValueError(f"not readable as {name}: {error}") from error


def read_source(
    path: Path, *, field: str, columns: Sequence[str], optional: Sequence[str] = (), max_bytes: int = MAX_BYTES
) -> pd.DataFrame:
    """The user's own table, named by the parameter ``field``: ``columns``, ``optional`` (None if not there), `UNREADABLE`.

    Raises:
        ValueError: no such file, another suffix, unreadable, or a column is missing.
    """
    if not path.is_file():
        raise ValueError(f"{field} {str(path)!r}: no such file; give packages or a file with {' and '.join(columns)}")
    try:
        frame = read_frame(path, columns={*columns, *optional}, max_bytes=max_bytes)
    except READ_ERRORS as error:
        raise ValueError(f"{field} {path}: {error}") from error
    _check_columns(frame, columns, path, what=f"{field} {path}")
    return _with_columns(frame, [*columns, *optional])


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], path: Path | None, *, what: str) -> None:
    """Raise a ValueError, which begins with ``what``, for a table without rows or without one of the columns."""
    if not len(frame):
        raise ValueError(f"{what} has no rows; give at least one")
    if lacking := sorted(set(columns) - set(frame.columns)):
        parquet = path is not None and path.suffix.lower() == ".parquet"
        names = pq.read_schema(path).names if parquet else list(frame.columns)
        raise ValueError(f"{what} lacks the column(s) {lacking}; it has {names}")


def text_cells(table: pd.DataFrame, *, max_characters: int | None = None) -> pd.DataFrame:
    """Every value as a text or None, such that one parquet file holds them; 1.0 as "1".

    A list, struct or bytes, which are no text, and a text of more than ``max_characters`` (None: no limit) make the row
    `UNREADABLE`, with the column in its reason.
    """
    limit = math.inf if max_characters is None else max_characters
    columns = [name for name in table.columns if name != UNREADABLE]
    problems = problems_of(table)
    for name in columns:
        for row, value in enumerate(table[name]):
            if isinstance(value, list | tuple | dict | bytes):
                problems[row] = f"column {name} holds no text but {type(value).__name__}: {_shown(value)}"[:SHOWN]
            elif isinstance(value, str) and len(value) > limit:
                problems[row] = f"column {name} holds {len(value)} characters, at most {limit} are read"
    cells = {
        name: [None if problem else _cell(value) for value, problem in zip(table[name], problems, strict=True)]
        for name in columns
    }
    return pd.DataFrame(cells | ({UNREADABLE: problems} if any(problems) else {}), index=table.index)


def _shown(value: Any) -> str:
    """The beginning of a value; of a large one no more than that is written on the way."""
    return repr(value[:SHOWN]) if isinstance(value, bytes) else SHORT.repr(value)


def _cell(value: Any) -> str | None:
    # A column of whole numbers with gaps is written as floats by some programs.
    whole = isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value)
    return None if value is None else str(int(value) if whole else value)


def problems_of(table: pd.DataFrame) -> list[str | None]:
    """Why a row can't be read, or None, for each row of a table."""
    given = table[UNREADABLE] if UNREADABLE in table else [None] * len(table)
    return [problem if isinstance(problem, str) else None for problem in given]  # a column of texts has NaN for None


def told(rejected: pd.DataFrame) -> str:
    """Rejected rows (columns row, reason, detail) in words: each reason, how often it is there, and one of its rows."""
    parts = []
    for reason, rows in rejected.groupby("reason", sort=False):
        first = rows.iloc[0]
        shown = f": {first['detail']}" if first["detail"] else ""
        parts.append((len(rows), f"{len(rows)} {reason} (row {first['row']}{shown})"))
    return ", ".join(words for _, words in sorted(parts, key=lambda part: -part[0])) or "none"


def _with_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """These columns, None where the table lacks one, and `UNREADABLE` if it is there."""
    lacking = {name: None for name in columns if name not in frame}
    kept = [*columns, *({UNREADABLE} & set(frame.columns))]
    return frame.assign(**lacking)[kept].astype(object)


def read_inputs(
    path: Path | None,
    *,
    optional: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
    max_characters: int | None = None,
) -> pd.DataFrame:
    """Column text, and ``optional`` ones, of a table, or of a text file (None: standard input) with a text per line.

    All are as `text_cells` gives them, with `UNREADABLE` where it is needed; an empty field or line is an empty text.

    Raises:
        ValueError: no such file, unreadable, or a table without a column text.
    """
    try:
        if path is not None and path.suffix.lower() in (READERS | REFUSED):
            frame = read_frame(path, columns={"text", *optional}, max_bytes=max_bytes)
        else:
            text = read_text(path, max_bytes=max_bytes) if path else _standard_input(max_bytes=max_bytes)
            frame = pd.DataFrame({"text": split_lines(text)}, dtype=object)
    except READ_ERRORS as error:
        hint = "; give - for the file, and pipe it in" if isinstance(error, NotRegular) else ""
        raise ValueError(f"{path or 'standard input'} can't be read: {error}{hint}") from error
    if not (frame.empty and "text" in frame):
        _check_columns(frame, ["text"], path, what=str(path or "standard input"))
    if path is not None and path.suffix.lower() in (".csv", ".tsv"):
        frame["text"] = frame["text"].fillna("")
    found = text_cells(_with_columns(frame, ["text", *optional]), max_characters=max_characters).astype(object)
    return found.where(found.notna(), None)


def _standard_input(*, max_bytes: int) -> str:
    # Bytes, since standard input's own decoding depends on the locale; without one nothing is there to read.
    content = read_bytes(sys.stdin.buffer, max_bytes=max_bytes) if sys.stdin else b""
    return decode_text(content, name="LIST")


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
