"""CSV and TSV as users write them: nothing shifts, nothing is lost, nothing is guessed.

Every record must have as many fields as the header, since one too many or too few shifts every value after it.
"""

from __future__ import annotations

import csv
import re
import sys
import warnings
from collections.abc import Iterator

# Up to the end of the header, which may hold line breaks in quotes.
HEADER = re.compile(r'(?:[^"\r\n]++|"[^"]*+")*+(\r?\n|\r)')
# A quote after spaces is no quote to the csv module, but a part of the field.
SPACED = re.compile(r'\s+"')
SHOWN = 5
# Fields that blank lines may stand for: a header of many names and lines of one byte would make a table beyond memory.
MAX_BLANK = 10**7


def parse_delimited(text: str, *, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """Header and records of a table; a blank line is a record of empty fields.

    Lines end as the header does: in LF or CRLF, or in CR alone.

    Raises:
        ValueError: no header, records with more or fewer fields than it (the lines are named), quotes that are not
            balanced, a CR in a field without quotes, or too many blank lines below a header of many names. Lines are
            counted from 1.
    """
    if not text.strip("\r\n"):
        raise ValueError("the file is empty; its first line must name the columns")
    found = HEADER.match(text)
    lines = list(_lines(text, end="\r" if found and found[1] == "\r" else "\n"))
    limit = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    wrong: list[tuple[int, int]] = []
    spanning: list[int] = []
    header: list[str] = []
    begin = 1
    try:
        for record in reader:
            raw = lines[begin - 1 : reader.line_num]
            _check_quotes(record, raw, begin, delimiter=delimiter)
            if not header:
                header = record
                _check_header(header, begin)
            elif record and record[0].startswith("\ufeff") and [record[0].strip("\ufeff"), *record[1:]] == header:
                raise ValueError(f"line {begin} is the header once more, with a byte order mark; delete it")
            elif len(record) in (0, len(header)):
                records.append(record)
            else:
                wrong.append((begin, len(record)))
            if any(line.count(delimiter) == len(header) - 1 > 0 for line in raw[1:-1]):
                spanning.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(_quoting(str(error), begin, reader.line_num)) from None
    finally:
        csv.field_size_limit(limit)
    if len(header) == 1 and set(header[0]) & set(";|\t,，"):
        raise ValueError(f"the header is one field, {header[0]!r}: separate fields by commas in .csv, by tabs in .tsv")
    if wrong:
        shown = ", ".join(f"line {line} has {count}" for line, count in wrong[:SHOWN])
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        mark = "comma" if delimiter == "," else "tab"
        raise ValueError(
            f"{len(wrong)} of {len(wrong) + len(records)} records don't have the header's {len(header)} field(s): "
            f"{shown}{more}; put each field that holds a {mark} in double quotes, and end no line with a {mark}"
        )
    _warn_of(spanning)
    return header, _filled(header, records)


def _filled(header: list[str], records: list[list[str]]) -> list[list[str]]:
    """The records, blank ones as empty fields; ValueError where those would be more than `MAX_BLANK`."""
    blank = sum(not record for record in records)
    if blank * len(header) > MAX_BLANK:
        raise ValueError(f"{blank} blank lines below a header of {len(header)} names; delete those lines")
    empty = [""] * len(header)
    return [record or empty for record in records]


def _warn_of(spanning: list[int]) -> None:
    """Warn of records, by their first lines, that may have swallowed others."""
    if spanning:
        shown = ", ".join(map(str, spanning[:SHOWN]))
        warnings.warn(
            f"{len(spanning)} record(s) span lines that look like records themselves, the first from line {shown}: "
            "is a double quote left open there?",
            stacklevel=3,
        )


def _check_quotes(record: list[str], raw: list[str], begin: int, *, delimiter: str) -> None:
    """Raise a ValueError for a field with a quote after spaces, which would stay in the field."""
    for value in filter(SPACED.match, record):
        if re.search(rf"(?:^|{delimiter}){re.escape(value)}(?:{delimiter}|[\r\n]*$)", "".join(raw)):
            raise ValueError(f"line {begin}: spaces stand before a double quote ({value[:40]!r}); delete them")


def _check_header(header: list[str], line: int) -> None:
    """Raise a ValueError for a first line that names no columns."""
    if header and header[0].lower().startswith("sep="):
        raise ValueError(f"delete line {line} ({header[0]}), which is Excel's own")
    if header and not any(name.strip() for name in header):
        raise ValueError(f"line {line} names no column; delete the lines before the header")


def _lines(text: str, *, end: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        found = text.find(end, start)
        stop = len(text) if found < 0 else found + 1
        yield text[start:stop]
        start = stop


def _quoting(problem: str, begin: int, line: int) -> str:
    place = f"line {begin}" if line <= begin else f"lines {begin} to {line}"
    if "new-line character" in problem:
        return (
            f"{place}: a line break of another kind than the header's stands in a field; put the field in double quotes"
        )
    return (
        f"{place}: double quotes are not balanced ({problem}); put the whole field in double quotes and write each "
        'one within twice, "say ""this"""'
    )
