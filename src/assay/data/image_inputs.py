"""Images in, rows out: what ``assay predict`` and ``assay corridor`` share.

Files, folders, globs and lists become inputs in order; rows go to a file or to standard output, in bounded memory.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from assay.core.io import atomic_path
from assay.core.progress import progress
from assay.data.decode import ImageRejected, Reason
from assay.data.encodings import decode_text, split_lines
from assay.data.path_text import escape_path

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
Row = dict[str, Any]
Found = TypeVar("Found")


class Input(NamedTuple):
    """A path to judge, or one that is known to give no image, and why."""

    path: str
    problem: str | None = None


def expand(
    arguments: Sequence[str], *, recursive: bool, stdin: IO[bytes] | None = None, null: bool = False
) -> Iterator[Input]:
    """Every input named by files, folders, globs, or ``-`` (a list on standard input), in the order given.

    A folder stands for its images by suffix, with ``recursive`` for those of its subfolders too (links to folders are
    not followed). A file that is named twice comes twice. What names nothing comes with its problem.
    ``stdin`` holds a path per line, or with ``null`` paths that end in a NUL byte; globs in it are not expanded.
    """
    for argument in arguments:
        if argument == "-" and stdin is not None:
            for path in _listed(stdin, null=null):
                yield from _file_or_folder(path, recursive=recursive)
        elif has_magic(argument) and not os.path.lexists(argument):
            yield from _matches(argument, recursive=recursive)
        else:
            yield from _file_or_folder(argument, recursive=recursive)


def is_one_file(arguments: Sequence[str]) -> bool:
    """Whether the arguments of `expand` are the name of a single file, there or not: no folder, glob or list."""
    if len(arguments) != 1 or arguments[0] == "-" or os.path.isdir(arguments[0]):
        return False
    return os.path.lexists(arguments[0]) or not has_magic(arguments[0])


def _listed(stream: IO[bytes], *, null: bool) -> Iterator[str]:
    """The paths of a list; empty lines are no paths.

    Bytes that are not UTF-8 are kept, as names of files may have them. A byte order mark is no part of the first name;
    one of UTF-16, as PowerShell writes it, says how to read the list.

    Raises:
        ValueError: UTF-16 that can't be decoded.
    """
    if not null:
        first = stream.readline()
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            try:
                text = decode_text(first + stream.read(), name="LIST")
            except ValueError as error:
                raise ValueError(f"the list on standard input: {error}") from None
            yield from (line for line in split_lines(text) if line)
            return
        lines = chain([first.removeprefix(codecs.BOM_UTF8)], stream)
        yield from (os.fsdecode(name) for line in lines if (name := line.removesuffix(b"\n").removesuffix(b"\r")))
        return
    rest = b""
    while block := stream.read(2**16):
        *whole, rest = (rest + block).split(b"\0")
        yield from (os.fsdecode(path) for path in whole if path)
    if rest:
        yield os.fsdecode(rest)


def _file_or_folder(path: str, *, recursive: bool) -> Iterator[Input]:
    if not os.path.isdir(path):
        yield Input(path)
        return
    item = None
    for item in _folder(path, recursive=recursive):
        yield item
    if item is None:
        where = "" if recursive else " itself (--recursive looks into subfolders)"
        yield Input(path, f"no_pictures: no file with a picture's suffix in the folder{where}")


def _folder(folder: str, *, recursive: bool) -> Iterator[Input]:
    """Images of a folder sorted by name, those of subfolders after them; a folder that can't be read is an input."""
    errors: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(folders) if recursive else []
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Input(os.path.join(place, name))
        yield from _unreadable(errors)
    yield from _unreadable(errors)


def _unreadable(errors: list[OSError]) -> Iterator[Input]:
    while errors:
        error = errors.pop(0)
        yield Input(os.fsdecode(error.filename), f"not_readable: {error.strerror}")


def _matches(pattern: str, *, recursive: bool) -> Iterator[Input]:
    """What a glob matches, each file once; folders among it give their images, if they have any."""
    seen: set[str] = set()
    for path in sorted(glob(pattern, recursive=recursive)):
        for item in _folder(path, recursive=recursive) if os.path.isdir(path) else [Input(path)]:
            if item.path not in seen:
                seen.add(item.path)
                yield item
    if not seen:
        yield Input(pattern, "no_match: the pattern matches no file")


def in_threads(
    function: Callable[[Input], Found], items: Iterable[Input], *, workers: int, ahead: int
) -> Iterator[tuple[Input, Found]]:
    """(item, function(item)) in order, at most ``ahead`` of them waiting: files are decoded while the network runs."""
    remaining = iter(items)
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        waiting: deque[tuple[Input, Future[Found]]] = deque(
            (item, pool.submit(function, item)) for item in islice(remaining, ahead)
        )
        while waiting:
            item, result = waiting.popleft()
            yield item, result.result()
            waiting.extend((item, pool.submit(function, item)) for item in islice(remaining, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def pixels_or_reason(
    item: Input, read: Callable[[str], Found], *, too_large: tuple[type[Exception], ...] = (MemoryError,)
) -> Found | str:
    """``read(path)``, or why there are no pixels; ``too_large`` are the errors of an image beyond memory."""
    if item.problem is not None:
        return item.problem
    try:
        return read(item.path)
    except ImageRejected as error:
        return f"{error.reason}: {error.detail}"
    except too_large as error:
        return f"{Reason.TOO_MANY_PIXELS}: {type(error).__name__}"


def begin_rows(
    batch: Iterable[tuple[Input, Found | str]], columns: Iterable[str]
) -> tuple[list[Row], list[tuple[Row, Found]]]:
    """One row per input, in order, and those of them that have an image, to be filled in.

    One that gave no image has status ``error`` and a reason.
    """
    names = list(columns)
    rows: list[Row] = []
    images: list[tuple[Row, Found]] = []
    for item, result in batch:
        row = dict.fromkeys(names) | {"path": escape_path(item.path), "status": "ok"}
        if isinstance(result, str):
            row |= {"status": "error", "reason": result.encode("utf-8", "backslashreplace").decode()}
        else:
            images.append((row, result))
        rows.append(row)
    return rows, images


def write_rows(
    rows: Iterable[Row], output: Path | None, *, columns: Sequence[str], numbers: Collection[str]
) -> tuple[int, int]:
    """Write rows to a .csv, .jsonl or .parquet file, or as CSV to standard output; (rows, errors).

    Every row has all ``columns``; those of ``numbers`` hold floats or None, the others texts or None. A file appears when
    it is complete, under its name, and not before. Standard output gets each row at once.
    """
    count = errors = 0

    def counted() -> Iterator[Row]:
        nonlocal count, errors
        # Rows on a terminal show the progress themselves, and a bar would run through them.
        shown = output is None and sys.stdout.isatty()
        for row in rows if shown else progress(rows, name="predicting", unit="image"):
            yield row
            count, errors = count + 1, errors + (row["status"] == "error")

    if output is None:
        with standard_output() as stream:
            _write_csv(counted(), stream, columns)
        return count, errors
    with atomic_path(output) as temporary:
        if output.suffix.lower() == ".parquet":
            _write_parquet(counted(), temporary, columns, numbers)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                if output.suffix.lower() == ".csv":
                    _write_csv(counted(), stream, columns)
                else:
                    _write_jsonl(counted(), stream)
    return count, errors


@contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Standard output as UTF-8, a line at a time, whatever the locale."""
    sys.stdout.flush()
    with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="", buffering=1, closefd=False) as stream:
        yield stream


def _write_csv(rows: Iterable[Row], stream: IO[str], columns: Sequence[str]) -> None:
    plain = csv.writer(stream, lineterminator="\n")
    # The csv module quotes a line feed, but not a carriage return, which readers take for the end of a line too.
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        values = [row[name] for name in columns]
        (quoted if "\r" in f"{row['path']}{row['reason']}" else plain).writerow(values)


def _write_jsonl(rows: Iterable[Row], stream: IO[str]) -> None:
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(rows: Iterable[Row], path: Path, columns: Sequence[str], numbers: Collection[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in columns])
    with pq.ParquetWriter(path, schema) as writer:
        remaining = iter(rows)
        while chunk := list(islice(remaining, 4096)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
