"""Text files that users bring, in whatever encoding can be told for certain: UTF-8, or what a byte order mark names."""

from __future__ import annotations

import codecs
import shlex
import sys
from pathlib import Path
from typing import IO

from assay.data.picture_kinds import open_regular

MAX_BYTES = 2**30
"""Of a table or a list of texts, where nobody says otherwise."""

# Marks, with the codec of what follows. UTF-32's begins like UTF-16's; it is refused below, and so comes first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# So many characters beyond ASCII to one that is wrong, and the encoding is right, but damaged.
RARE = 10
NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


# First bytes of files that are no text, whatever their name says.
OTHERS = {
    b"PK\x03\x04": "a spreadsheet or a zip archive; save the sheet as CSV UTF-8, or unpack it",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"PAR1": "parquet; give it the suffix .parquet",
    b"SQLite format 3": "an SQLite database; write the table as CSV",
    b"%PDF": "a PDF; write the table as CSV",
    b"version https://git-lfs": "a pointer of Git LFS; git lfs pull brings the file itself",
}


def decode_text(content: bytes, *, name: str) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one; the mark is no part of it.

    Args:
        name: of the file, for the command that the error gives.

    Raises:
        ValueError: another encoding; line and byte are counted from 1, and the command that converts is told.
    """
    if kind := next((kind for start, kind in OTHERS.items() if content.startswith(start)), None):
        raise ValueError(f"the file is {kind}")
    mark, codec = next(((mark, codec) for mark, codec in MARKS if content.startswith(mark)), (b"", "utf-8"))
    if codec.startswith("utf-32"):
        raise ValueError(f"the file is UTF-32; {_convert(name, 'UTF-32')}")
    if not mark and b"\0" in content[:2]:
        guess = "UTF-16LE" if content[1:2] == b"\0" else "UTF-16BE"
        place = content.index(b"\0") + 1
        raise ValueError(f"line 1, byte {place} is NUL: {guess} without its byte order mark? {_convert(name, guess)}")
    body = content[len(mark) :]
    try:
        return body.decode(codec)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(codec)
        line = (before.count("\n") or before.count("\r")) + 1
        byte = len(mark) + error.start + 1
        told = f"line {line}, byte {byte} is not {NAMES[codec]} ({error.reason})"
        shown = body.decode(codec, "replace")
        bad = shown.count("\ufffd")
        if sum(character > "\x7f" for character in shown) > RARE * bad:
            raise ValueError(f"{told}, but nearly all of the file is: mend that line") from None
        found = _guess(body) if codec == "utf-8" else "UTF-16"
        raise ValueError(f"{told}; {_convert(name, found)}") from None


def _guess(content: bytes) -> str:
    """What a file that is no UTF-8 most often is: Chinese, or else Western."""
    try:
        content.decode("gb18030")
    except UnicodeDecodeError:
        return "CP1252"
    return "GB18030"


def _convert(name: str, encoding: str) -> str:
    command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > converted"
    return f"convert the file, say with {command} (after -f comes the encoding it has)"


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a regular file; see `decode_text`.

    Raises:
        OSError: it can't be read.
        ValueError: as `decode_text`, or the file has more than ``max_bytes``.
    """
    with open_regular(path) as file:
        return decode_text(read_bytes(file, max_bytes=max_bytes), name=path.name)


def read_bytes(file: IO[bytes], *, max_bytes: int) -> bytes:
    """All that a file or a pipe holds; ValueError where that is more than ``max_bytes``."""
    # sys.maxsize stands for no limit: what a stage has written itself.
    content = file.read(-1 if max_bytes == sys.maxsize else max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes} bytes, which is the limit (limits.table_bytes, --max-bytes)")
    return content


def split_lines(text: str) -> list[str]:
    """Lines without their ends, which are LF, CRLF or, in a text without any LF, CR; a last end begins no line."""
    # Not splitlines, to which a line separator within a text (U+2028) is an end of line.
    end = "\n" if "\n" in text else "\r"
    if not text:
        return []
    return [line.removesuffix("\r") for line in text.removesuffix(end).split(end)]
