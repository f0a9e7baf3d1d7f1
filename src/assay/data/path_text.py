"""Names of files as text: those that are not UTF-8 stand in tables escaped, and come back as `open` takes them."""

from __future__ import annotations

import os
import re

URL = re.compile(r"data:|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""The beginning of what is no path: nothing is fetched."""
# What stands for a byte that is not UTF-8, or for a backslash, in a path that was escaped.
ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def escape_path(path: str) -> str:
    r"""A path as text for a table: itself, but for names that are not UTF-8.

    Bytes that are not UTF-8 are written ``\xNN``, and in such a path (or one that looks like it) a backslash is written
    twice. ``unescape_path`` gives the path back, whatever it was.
    """
    raw = os.fsencode(path)
    try:
        if not ESCAPED.search(raw):
            return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescape_path(text: str) -> str:
    """The path that a table's ``path`` stands for, as ``open`` takes it: the inverse of ``escape_path``."""

    def character(match: re.Match[bytes]) -> bytes:
        return b"\\" if match[1] == b"\\" else bytes([int(match[1][1:], 16)])

    return os.fsdecode(ESCAPED.sub(character, text.encode("utf-8")))


def plain_text(text: str) -> str:
    """A message that UTF-8 can hold: what it can't (bytes of a name, half a character) is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
