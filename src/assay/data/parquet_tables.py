"""Parquet files that users bring: the values of columns, and no more of them than a limit, however small the file is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.core.parallel import Ended, Limits, Workers
from assay.data.picture_kinds import open_regular

# Bytes of a value as Python has it, beside those of a text.
VALUE_BYTES = 64
# Rows read at a time.
BATCH = 1024
# Of the process that reads what a file declares.
LIMITS = Limits(seconds=10, memory=2**31, at_once=1)


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
        told = _told(path)
        # Texts and bytes as references to their different values, of which each is there once.
        references = [leaf.path for leaf in told if leaf.is_text and not leaf.is_single]
        with (
            open_regular(path) as source,
            pq.ParquetFile(source, read_dictionary=references, arrow_extensions_enabled=False) as file,
        ):
            names = [name for name in file.schema_arrow.names if columns is None or name.strip(ends) in columns]
            rows = file.metadata.num_rows
            wanted = set(names)
            leaves = [leaf for leaf in told if leaf.is_of(wanted)]
            _check(
                max([rows * VALUE_BYTES, *(leaf.number * (VALUE_BYTES + leaf.length) for leaf in leaves)]), max_bytes
            )
            if not names:
                return [], rows
            values: list[list[Any]] = [[] for _ in names]
            total = 0
            for batch in file.iter_batches(batch_size=_batch_size(leaves), columns=names):
                total += sum(map(_size, batch.columns))
                _check(total, max_bytes)
                for name, found, column in zip(batch.schema.names, values, batch.columns, strict=True):
                    found += _values(name, column)
            return list(zip(names, values, strict=True)), rows
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _told(path: Path) -> list[_Leaf]:
    """What the file declares, read in a process of its own: Arrow's metadata ends the process over some damaged files.

    Raises:
        ValueError: that happened, or it takes too long.
    """
    with Workers(declared_leaves, count=1, limits=LIMITS) as workers:
        ((_, found),) = workers.map([path], chunk=1)
    if isinstance(found, Ended):
        raise ValueError(f"Arrow can't read what the columns declare ({found.detail}); write the file again")
    return found


class _Leaf(NamedTuple):
    """A column of single values: one of the table, or what its lists and structs hold.

    ``number`` of values, ``length`` in bytes of each where that is fixed, else 0; ``is_single``: it holds texts or the
    like that can't be read as references (values that are stored as differences, DELTA_...); ``is_listed``: a row may
    have any number of them.
    """

    path: str
    number: int
    length: int
    is_text: bool
    is_single: bool
    is_listed: bool

    def is_of(self, columns: Collection[str]) -> bool:
        """Whether it may be a part of one of the columns, whose names may hold the dots of a path themselves."""
        ends = [*(place for place, character in enumerate(self.path) if character == "."), len(self.path)]
        return any(self.path[:end] in columns for end in ends)


def declared_leaves(path: Path) -> list[_Leaf]:
    """What the metadata of a parquet file says of its single columns; ValueError where it is none."""
    try:
        with open_regular(path) as source, pq.ParquetFile(source, arrow_extensions_enabled=False) as file:
            return _leaves(file)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _leaves(file: pq.ParquetFile) -> list[_Leaf]:
    numbers, differences = [0] * len(file.schema), [False] * len(file.schema)
    for group in range(file.metadata.num_row_groups):
        record = file.metadata.row_group(group)
        for place in range(record.num_columns):
            part = record.column(place)
            numbers[place] += part.num_values
            differences[place] |= any(name.startswith("DELTA_") for name in part.encodings)
    found = []
    for place, (number, is_difference) in enumerate(zip(numbers, differences, strict=True)):
        leaf = file.schema.column(place)
        is_text = leaf.physical_type == "BYTE_ARRAY"
        is_single = is_text and (is_difference or leaf.logical_type.type == "DECIMAL")
        is_listed = leaf.max_repetition_level > 0
        found.append(_Leaf(leaf.path, number, max(0, leaf.length or 0), is_text, is_single, is_listed))
    return found


def _batch_size(leaves: Sequence[_Leaf]) -> int:
    """Rows to read at a time: a single one where a row's texts may be as long as the file has bytes, unpacked.

    Raises:
        ValueError: lists of such texts, of which one row could hold any number.
    """
    single = [leaf for leaf in leaves if leaf.is_single]
    for leaf in single:
        if leaf.is_listed:
            raise ValueError(f"column {leaf.path}: lists of DELTA-coded texts are not read; write them without DELTA")
    return 1 if single else BATCH


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(f"it unpacks to more than {max_bytes} bytes, the limit (limits.table_bytes, --max-bytes)")


def _size(column: pa.Array) -> int:
    """Bytes of a column's values as Python has them."""
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        return int(pc.sum(lengths).as_py() or 0) + VALUE_BYTES * len(column)
    if pa.types.is_nested(column.type):
        is_map, is_struct = pa.types.is_map(column.type), pa.types.is_struct(column.type)
        parts = [column.keys, column.items] if is_map else column.flatten() if is_struct else [column.flatten()]
        return sum(map(_size, parts)) + VALUE_BYTES * len(column)
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
