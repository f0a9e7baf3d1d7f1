"""CSV and TSV as users write them: nothing shifts, nothing is lost, nothing is guessed.

Every record must have as many fields as the header, since one too many or too few shifts every value after it.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator

# Up to the end of the header, which may hold line breaks in quotes.
HEADER = re.compile(r'(?:[^"\r\n]++|"[^"]*+")*+(\r?\n|\r)')
EXCEL = re.compile(r"sep=.?[\r\n]")
SPACED = re.compile(r'[ \t]+"')
SHOWN = 5


def parse_delimited(text: str, *, delimiter: str) -> tuple[list[str], list[list[str]]]:
    """Header and records of a table; a blank line is a record of empty fields.

    Lines end as the header does: in LF or CRLF, or in CR alone.

    Raises:
        ValueError: no header, records with more or fewer fields than it (the lines are named), quotes that are not
            balanced, or stand behind a space, or a CR in a field without quotes. Lines are counted from 1.
    """
    _check_start(text)
    found = HEADER.match(text)
    held: list[str] = []
    lines = _lines(text, end="\r" if found and found[1] == "\r" else "\n", held=held)
    limit = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    wrong: list[tuple[int, int]] = []
    header: list[str] = []
    begin = 1
    try:
        for record in reader:
            _check_record(record, "".join(held), begin, header=header, delimiter=delimiter)
            held.clear()
            if not header:
                header = record
            elif len(record) in (0, len(header)):
                records.append(record or [""] * len(header))
            else:
                wrong.append((begin, len(record)))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(_quoting(str(error), begin, reader.line_num)) from None
    finally:
        csv.field_size_limit(limit)
    if len(header) == 1 and set(header[0]) & set(";|\t,\uff0c\uff1b"):
        raise ValueError(f"the header is one field, {header[0]!r}: separate fields by commas in .csv, by tabs in .tsv")
    if wrong:
        shown = ", ".join(f"line {line} has {count}" for line, count in wrong[:SHOWN])
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        mark = "comma" if delimiter == "," else "tab"
        raise ValueError(
            f"{len(wrong)} of {len(wrong) + len(records)} records don't have the header's {len(header)} field(s): "
            f"{shown}{more}; put each field that holds a {mark} in double quotes, and end no line with a {mark}"
        )
    return header, records


def _check_start(text: str) -> None:
    if not text.strip("\r\n"):
        raise ValueError("the file is empty; its first line must name the columns")
    if EXCEL.match(text):
        raise ValueError("line 1 (sep=) is Excel's own; delete it")
    if not text[: text.find("\n")].strip():
        raise ValueError("line 1 is blank; the first line must name the columns")


def _check_record(record: list[str], raw: str, line: int, *, header: list[str], delimiter: str) -> None:
    """Raise a ValueError for a record that csv reads otherwise than its writer meant."""
    if record and header and record[0].startswith("\ufeff") and ",".join(record).lstrip("\ufeff") == ",".join(header):
        raise ValueError(f"line {line} is the header again, behind a byte order mark, as files put together have it")
    # A field that itself begins so is in quotes, and its own are doubled.
    if any(SPACED.match(field) for field in record) and re.search(rf'(^|{re.escape(delimiter)})[ \t]+"(?!")', raw):
        raise ValueError(
            f"line {line}: a space stands before a double quote, so that it quotes nothing; delete the space"
        )


def _lines(text: str, *, end: str, held: list[str]) -> Iterator[str]:
    """The lines one by one, each put into ``held`` too."""
    start = 0
    while start < len(text):
        found = text.find(end, start)
        stop = len(text) if found < 0 else found + 1
        held.append(text[start:stop])
        yield held[-1]
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
