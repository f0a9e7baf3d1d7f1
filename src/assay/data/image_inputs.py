"""Images in, rows out: what ``assay predict`` and ``assay corridor`` share.

Files, folders, globs and lists become inputs in order; rows go to a file or to standard output, in bounded memory.
"""

from __future__ import annotations

import codecs
import csv
import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from glob import glob, has_magic
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from assay.core.io import atomic_path
from assay.core.parallel import Ended, Workers
from assay.core.progress import progress
from assay.data.decode import ImageRejected, Reason
from assay.data.decoders import rejection
from assay.data.encodings import decode_text, split_lines
from assay.data.outputs import plain_cell
from assay.data.path_text import URL, escape_path
from assay.data.picture_kinds import looks_like_a_picture

AS_UTF8 = "convert it: iconv -f UTF-16LE -t UTF-8"
# Bytes of a name in a list, far above what systems open, and of a list that has to be converted as a whole.
MAX_NAME_BYTES, MAX_LIST_BYTES = 2**20, 2**26

Row = dict[str, Any]
Found = TypeVar("Found")


class Input(NamedTuple):
    """A path to judge, or one that is known to give no image, and why."""

    path: str
    problem: str | None = None


class Left(NamedTuple):
    """What a folder holds and is not judged: its path, and its kind in a word."""

    path: str
    kind: str


def expand(
    arguments: Sequence[str],
    *,
    recursive: bool,
    stdin: IO[bytes] | None = None,
    null: bool = False,
    left: Counter[str] | None = None,
) -> Iterator[Input]:
    """Every input named by files, folders, globs, or ``-`` (a list on standard input), in the order given.

    A folder stands for its pictures, known by suffix or by their first bytes, with ``recursive`` for those of its
    subfolders too (links to folders are not followed); what else it holds is counted in ``left``, by kind. A file that
    is named twice comes twice. What names nothing comes with its problem.
    ``stdin`` holds a path per line, or with ``null`` paths that end in a NUL byte; globs in it are not expanded.
    """
    for argument in arguments:
        for each in _named(argument, recursive=recursive, stdin=stdin, null=null):
            if isinstance(each, Input):
                yield each
            elif left is not None:
                left[each.kind] += 1


def _named(argument: str, *, recursive: bool, stdin: IO[bytes] | None, null: bool) -> Iterator[Input | Left]:
    if argument == "-" and stdin is not None:
        for path in _listed(stdin, null=null):
            yield from _file_or_folder(path, recursive=recursive)
    elif has_magic(argument) and not os.path.lexists(argument) and not URL.match(argument):
        yield from _matches(argument, recursive=recursive)
    else:
        yield from _file_or_folder(argument, recursive=recursive)


def left_sentence(left: Counter[str]) -> str:
    """What `expand` left, in words: ``not judged: 3 .mov, 1 .txt``."""
    return "not judged: " + ", ".join(f"{count} {kind}" for kind, count in left.most_common())


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
        ValueError: UTF-16 that can't be decoded, or with ``null``; NUL bytes without it; a name, or a list in UTF-16, that
            is longer than any is.
    """
    lines = iter(partial(stream.readline, MAX_NAME_BYTES + 1), b"")
    first = stream.read(MAX_NAME_BYTES) if null else next(lines, b"")
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            if null:
                raise ValueError(f"it is UTF-16, whose characters hold NUL bytes; leave out --null, or {AS_UTF8}")
            content = first + stream.read(MAX_LIST_BYTES)
            if len(content) > MAX_LIST_BYTES:
                raise ValueError(f"it is UTF-16 of more than {MAX_LIST_BYTES} bytes; {AS_UTF8}")
            text = decode_text(content, name="LIST")
        except ValueError as error:
            raise ValueError(f"the list on standard input: {error}") from None
        yield from (line for line in split_lines(text) if line)
        return
    first = first.removeprefix(codecs.BOM_UTF8)
    for name in _until_nul(first, stream) if null else chain([first], lines):
        if len(name if null else name.rstrip(b"\r\n")) > MAX_NAME_BYTES:
            end = "NUL bytes" if null else "ends of lines (with NUL bytes give --null)"
            raise ValueError(
                f"the list on standard input has {MAX_NAME_BYTES} bytes without {end}: it is no list of names"
            )
        if not null and b"\0" in name:
            raise ValueError(
                "the list on standard input holds NUL bytes: give --null if names end in them (find -print0); if it is "
                f"UTF-16LE without a byte order mark, {AS_UTF8}"
            )
        if name := name if null else name.removesuffix(b"\n").removesuffix(b"\r"):
            yield os.fsdecode(name)


def _until_nul(block: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block:
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
        # A name without an end is handed on as it is, and refused.
        block = stream.read(MAX_NAME_BYTES) if len(rest) <= MAX_NAME_BYTES else b""
    yield rest


def _file_or_folder(path: str, *, recursive: bool) -> Iterator[Input | Left]:
    if not os.path.isdir(path):
        yield Input(path, None if os.path.lexists(path) else _why_missing(path))
        return
    pictures = 0
    for each in _folder(path, recursive=recursive):
        pictures += isinstance(each, Input)
        yield each
    if not pictures:
        where = "" if recursive else " itself (--recursive looks into subfolders)"
        yield Input(path, f"no_pictures: no picture in the folder{where}")


def _why_missing(path: str) -> str | None:
    """Why nothing is there, where the name itself shows it."""
    if URL.match(path):
        return f"{Reason.NOT_A_FILE}: a URL, and nothing is fetched; save the picture and give its path"
    for is_so, hint in (
        ("\n" in path, "the name holds line breaks; leave out --null where each name has a line"),
        (path[:1] in ("'", '"') and path[-1:] == path[:1], "write the name without quotes"),
        (path != path.strip(), "write the name without spaces around it"),
        ("\\" in path, "write / for \\ between folders"),
    ):
        if is_so:
            return f"{Reason.NOT_A_FILE}: {os.strerror(errno.ENOENT)}; {hint}"
    return None


def _folder(folder: str, *, recursive: bool) -> Iterator[Input | Left]:
    """Pictures of a folder sorted by name, those of subfolders after them; a folder that can't be read is an input."""
    errors: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=errors.append):
        for name in sorted(folders):
            path = os.path.join(place, name)
            if not recursive:
                yield Left(path, "subfolder(s) without --recursive")
            elif os.path.islink(path):
                yield Left(path, "link(s) to a folder")
        folders[:] = sorted(folders) if recursive else []
        for name in sorted(files):
            yield _input_or_left(os.path.join(place, name))
        yield from _unreadable(errors)
    yield from _unreadable(errors)


def _input_or_left(path: str) -> Input | Left:
    """A file of a folder: a picture, or what it is instead."""
    try:
        if looks_like_a_picture(path):
            return Input(path)
    except OSError:
        return Left(path, "not readable")
    stem, suffix = os.path.splitext(os.path.basename(path))
    if stem.startswith("."):
        return Left(path, "hidden")
    if not suffix:
        return Left(path, "without a suffix")
    return Left(path, suffix.lower() if suffix.isprintable() else "other")


def _unreadable(errors: list[OSError]) -> Iterator[Input]:
    while errors:
        error = errors.pop(0)
        yield Input(os.fsdecode(error.filename), f"not_readable: {error.strerror}")


def _matches(pattern: str, *, recursive: bool) -> Iterator[Input | Left]:
    """What a glob matches, each file once; folders among it give their pictures, if they have any."""
    seen: set[str] = set()
    left: dict[str, Left] = {}
    for path in sorted(glob(pattern, recursive=recursive)):
        for each in _folder(path, recursive=recursive) if os.path.isdir(path) else [Input(path)]:
            if isinstance(each, Left):
                left[each.path] = each
            elif each.path not in seen:
                seen.add(each.path)
                yield each
    # A folder is looked into before the pattern names what it holds.
    yield from (each for path, each in left.items() if path not in seen)
    if not seen:
        yield Input(pattern, "no_match: the pattern matches no file")


def decoded(
    readers: Workers[Found | str], items: Iterable[Input], *, ahead: int, **options: Any
) -> Iterator[tuple[Input, Found | str]]:
    """(item, what the readers' function makes of it, or a reason) in order, at most ``ahead`` of them waiting.

    Files are decoded in other processes while the network runs; one that takes too long has that for its reason.
    """
    for item, found in readers.map(items, ahead=ahead, **options):
        yield item, _reason(rejection(found)) if isinstance(found, Ended) else found


def _reason(error: ImageRejected) -> str:
    return f"{error.reason}: {error.detail}"


def pixels_or_reason(
    item: Input, read: Callable[[str], Found], *, too_large: tuple[type[Exception], ...] = (MemoryError,)
) -> Found | str:
    """``read(path)``, or why there are no pixels; ``too_large`` are the errors of an image beyond memory."""
    if item.problem is not None:
        return item.problem
    try:
        return read(item.path)
    except ImageRejected as error:
        return _reason(error)
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
    rows: Iterable[Row],
    output: Path | None,
    *,
    columns: Sequence[str],
    numbers: Collection[str],
    safe_csv: bool = False,
) -> tuple[int, int]:
    """Write rows to a .csv, .jsonl or .parquet file, or as CSV to standard output; (rows, errors).

    Every row has all ``columns``; those of ``numbers`` hold floats or None, the others texts or None. A file appears when
    it is complete, under its name, and not before. Standard output gets each row at once. With ``safe_csv`` no cell of a CSV
    begins as a formula (`plain_cell`).
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
            _write_csv(counted(), stream, columns, safe=safe_csv)
        return count, errors
    with atomic_path(output) as temporary:
        if output.suffix.lower() == ".parquet":
            _write_parquet(counted(), temporary, columns, numbers)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                if output.suffix.lower() == ".csv":
                    _write_csv(counted(), stream, columns, safe=safe_csv)
                else:
                    _write_jsonl(counted(), stream)
    return count, errors


@contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Standard output as UTF-8, a line at a time, whatever the locale."""
    sys.stdout.flush()
    with open(sys.stdout.fileno(), "w", encoding="utf-8", newline="", buffering=1, closefd=False) as stream:
        yield stream


def _write_csv(rows: Iterable[Row], stream: IO[str], columns: Sequence[str], *, safe: bool) -> None:
    plain = csv.writer(stream, lineterminator="\n")
    # The csv module quotes a line feed, but not a carriage return, which readers take for the end of a line too.
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(columns)
    for row in rows:
        values = [plain_cell(row[name]) if safe else row[name] for name in columns]
        (quoted if "\r" in f"{row['path']}{row['reason']}" else plain).writerow(values)


def _write_jsonl(rows: Iterable[Row], stream: IO[str]) -> None:
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(rows: Iterable[Row], temporary: Path, columns: Sequence[str], numbers: Collection[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in columns])
    with pq.ParquetWriter(temporary, schema) as writer:
        remaining = iter(rows)
        while chunk := list(islice(remaining, 4096)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
