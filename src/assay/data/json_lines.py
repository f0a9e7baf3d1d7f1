"""JSON lines, and arrays of JSON objects, as users write them: each value as it stands, and a reason for each bad line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.data.encodings import MAX_BYTES, read_text, split_lines

SPACE = re.compile(r"[ \t\r\n]*")
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SURROGATE = re.compile("[\ud800-\udfff]")
DIGITS = 4000  # Python itself refuses somewhat more
HOW = "write one object per line, or an array of objects"


def read_json_lines(path: Path, *, max_bytes: int = MAX_BYTES) -> list[tuple[int, dict[str, Any] | str]]:
    """(line, object) of each line of a JSON lines file, or of each item of a file that is one array of objects.

    Instead of an object comes the reason why there is none, with its line: not JSON, no object, blank, a key twice, a
    number that JSON can't write (NaN, Infinity), or a surrogate that stands for no character. Integers are exact. Lines
    are counted from 1; those of an array's items are where they begin. An end of line at the end begins no line.

    Raises:
        ValueError: neither UTF-8 nor UTF-16 with a byte order mark, an array that is not whole, or more than ``max_bytes``.
        OSError: not readable.
    """
    text = read_text(path, max_bytes=max_bytes)
    lines = split_lines(text)
    found = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[found].lstrip().startswith("[") and not _more_lines(lines, found):
        return list(_items(text))
    return [(number, _line_object(line, number)) for number, line in enumerate(lines, start=1)]


def _more_lines(lines: list[str], first: int) -> bool:
    """Whether the line ``first`` is whole by itself and others follow: lines of arrays, not one array."""
    try:
        json.loads(lines[first])
    except (ValueError, RecursionError):
        return False
    return any(line.strip() for line in lines[first + 1 :])


def _line_object(line: str, number: int) -> dict[str, Any] | str:
    line = line.removeprefix("\ufeff")  # of files put together
    if not line.strip():
        return f"line {number} is blank"
    try:
        return _object(DECODER.decode(line), number, raw=line)
    except (ValueError, RecursionError) as error:
        return f"line {number} is not JSON ({_shown(error)}); {HOW}"


def _shown(error: Exception) -> str:
    return f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _items(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The items of a text that is one JSON array."""
    start, end = _skip(text, 0) + 1, "\n" if "\n" in text else "\r"
    line, counted, first = 1, 0, True
    while True:
        start = _skip(text, start)
        line, counted = line + text.count(end, counted, start), start
        if text[start : start + 1] == "]" and first:
            break
        try:
            value, end_of_item = DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"line {line} is not JSON ({_shown(error)}); {HOW}") from error
        except ValueError as error:  # of our own: the item ends somewhere, and the others can be read
            _, end_of_item = json.JSONDecoder(parse_int=str).raw_decode(text, start)
            yield line, f"line {line}: {error}"
        else:
            yield line, _object(value, line, raw=text[start:end_of_item])
        start, first = _skip(text, end_of_item), False
        if text[start : start + 1] != ",":
            break
        start += 1
    if text[start : start + 1] != "]" or text[start + 1 :].strip():
        line += text.count(end, counted, start)
        raise ValueError(f"line {line} is not JSON (the array neither goes on nor ends here); {HOW}")


def _skip(text: str, start: int) -> int:
    match = SPACE.match(text, start)
    return match.end() if match else start


def _object(value: Any, line: int, *, raw: str) -> dict[str, Any] | str:
    if not isinstance(value, dict):
        return f"line {line} is no object but {type(value).__name__}; {HOW}"
    # Two escaped halves that stand together are one character, and no surrogate any more.
    if ESCAPED_SURROGATE.search(raw) and (wrong := SURROGATE.search(json.dumps(value, ensure_ascii=False))):
        return f"line {line} holds the surrogate U+{ord(wrong[0]):04X}, which stands for no character; decode it anew"
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name in record:
            raise ValueError(f"the key {name!r} stands there twice")
        record[name] = value
    return record


def _exact(number: str) -> int:
    if len(number) > DIGITS:
        raise ValueError(f"a number of {len(number)} digits")
    return int(number)


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is no finite number")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_finite, parse_int=_exact, parse_constant=_finite)
