"""Parquet files that users bring: the values of columns, and no more of them than a limit, however small the file is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.data.picture_kinds import open_regular

# Bytes of a value as Python has it, beside those of a text.
VALUE_BYTES = 64
# Rows read at a time.
BATCH = 1024


def read_columns(
    path: Path, *, columns: Collection[str] | None, ends: str, max_bytes: int
) -> tuple[list[tuple[str, list[Any]]], int]:
    """(name, Python values) of each of ``columns`` (None: all), and the number of rows.

    A text that is not UTF-8 stays bytes.
    Names are compared without ``ends`` around them. A few bytes can stand for a thousand million equal values: what they
    unpack to is counted before Python values are made of it.

    Raises:
        ValueError: no parquet, values that Python does not have, or more than ``max_bytes`` of them.
    """
    try:
        with open_regular(path) as source, _opened(source) as file:
            names = [name for name in file.schema_arrow.names if columns is None or name.strip(ends) in columns]
            rows = file.metadata.num_rows
            _check(max(rows, _leaves(file, names)) * VALUE_BYTES, max_bytes)
            if not names:
                return [], rows
            values: list[list[Any]] = [[] for _ in names]
            total = 0
            for batch in file.iter_batches(batch_size=BATCH, columns=names):
                total += sum(map(_size, batch.columns))
                _check(total, max_bytes)
                for name, found, column in zip(batch.schema.names, values, batch.columns, strict=True):
                    found += _values(name, column)
            return list(zip(names, values, strict=True)), rows
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _opened(source: Any) -> pq.ParquetFile:
    """The file, texts as references to their different values, of which each is there once."""
    with pq.ParquetFile(source) as file:
        texts = [field.name for field in file.schema_arrow if field.type in (pa.string(), pa.binary())]
    source.seek(0)
    return pq.ParquetFile(source, read_dictionary=texts)


def _leaves(file: pq.ParquetFile, names: Collection[str]) -> int:
    """Single values that the columns declare, those within lists counted one by one; of the column with most of them."""
    most: dict[str, int] = {}
    for group in range(file.metadata.num_row_groups):
        record = file.metadata.row_group(group)
        for number in range(record.num_columns):
            column = record.column(number)
            most[column.path_in_schema] = most.get(column.path_in_schema, 0) + column.num_values
    return max((count for path, count in most.items() if path.split(".")[0] in names), default=0)


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(f"it unpacks to more than {max_bytes} bytes, the limit (limits.table_bytes, --max-bytes)")


def _size(column: pa.Array) -> int:
    """Bytes of a column's values as Python has them."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        return int(pc.sum(lengths).as_py() or 0) + VALUE_BYTES * len(column)
    return int(column.nbytes) + VALUE_BYTES * len(column)


def _values(name: str, column: pa.Array) -> list[Any]:
    """Python values; a text that is not UTF-8 stays bytes. Raises ValueError, naming the column, where there are none."""
    try:
        plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        try:
            return list(plain.to_pylist())
        except UnicodeDecodeError:
            return [_decoded(value) for value in plain.cast(pa.binary()).to_pylist()]
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"column {name}: {error}") from error


def _decoded(value: bytes | None) -> Any:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value
