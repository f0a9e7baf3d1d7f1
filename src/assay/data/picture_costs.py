"""Pictures whose metadata or scans cost more than their pixels: counted here, before a parser sees them.

A file of half a megabyte can hold a JPEG's thousand passes over the picture, or tags that all point to the same bytes and
are copied for each. Honest files are far below these limits.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

MAX_SEGMENTS = 1000
"""Of a JPEG before its pixels: profiles and depth maps come in parts of 64 KiB."""
MAX_EXIF_SEGMENTS = 16
MAX_STRAY = 2**16
"""Bytes of a JPEG's header that belong to no segment."""
MAX_SCANS = 100
"""Passes over a JPEG's pixels; encoders make about ten."""
MAX_NUMBERS = 2**20
"""Of one tag: places of the strips of a TIFF, say."""
MAX_TAGS = 2**16 - 1
"""Of one directory; BigTIFF alone could hold more."""
BLOCK = 2**20

# Bytes of a value, by the type of a tag (TIFF 6.0 and BigTIFF); texts and bytes stay as they are, the others become numbers.
TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
RAW_TAGS = (1, 2, 7)
# ITU-T T.81, table B.1: markers without a segment, frames, and frames that come in scans over the whole picture.
ALONE = {0x00, 0x01, *range(0xD0, 0xDA)}
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
EXIF = b"Exif\0\0"


class Costly(NamedTuple):
    """What would cost too much: ``is_metadata``, or else the scans; and how much there is of it."""

    is_metadata: bool
    detail: str


def too_costly(kind: str | None, file: BinaryIO) -> Costly | None:
    """Why a JPEG or TIFF is not to be parsed, or None; read from the file's beginning, of which little is read."""
    file.seek(0)
    if kind == "JPEG":
        return _jpeg(file)
    return _metadata(directory_problem(file)) if kind == "TIFF" else None


def _metadata(problem: str | None) -> Costly | None:
    return None if problem is None else Costly(True, problem)


def _jpeg(file: BinaryIO) -> Costly | None:
    file.seek(2)
    segments = stray = components = 0
    exif: list[bytes] = []
    progressive = False
    while len(head := file.read(2)) == 2:
        code = head[1]
        if head[0] != 0xFF or code == 0xFF or code in ALONE:
            stray += 1
            file.seek(-1, 1)
            if stray > MAX_STRAY:
                return Costly(True, f"more than {MAX_STRAY} stray bytes before the pixels")
            continue
        body = file.read(max(0, int.from_bytes(file.read(2), "big") - 2))
        if code == 0xDA:
            several = progressive or body[:1] < bytes([components])
            return _metadata(exif_problem(b"".join(exif))) or (_scans(file) if several else None)
        segments += 1
        if code == 0xE1 and body.startswith(EXIF):
            exif.append(body[6:])
        if segments > MAX_SEGMENTS or len(exif) > MAX_EXIF_SEGMENTS:
            return Costly(True, f"more than {MAX_SEGMENTS} segments before the pixels, or {MAX_EXIF_SEGMENTS} of EXIF")
        if code in FRAMES:
            progressive = progressive or code in PROGRESSIVE
            components = body[5] if len(body) > 5 else 0
    return None


def _scans(file: BinaryIO) -> Costly | None:
    """Counts markers of a scan in what follows; within coded pixels none can stand, only a picture behind has more."""
    count, last = 1, b""
    while block := file.read(BLOCK):
        count += (last + block).count(b"\xff\xda")
        last = block[-1:]
        if count > MAX_SCANS:
            return Costly(False, f"more than {MAX_SCANS} scans")
    return None


def exif_problem(data: bytes) -> str | None:
    """Why the tags of EXIF data are not to be read, or None; the data may begin with ``Exif``."""
    return directory_problem(io.BytesIO(data.removeprefix(EXIF)))


def directory_problem(file: BinaryIO) -> str | None:
    """Why the first directory of tags of a TIFF is not to be read, or None; one that is damaged is left to its parser."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    place, number, entry = ("Q", "Q", "HHQQ") if big else ("L", "H", "HHLL")
    start = head[8:16] if big else head[4:8]
    if len(start) < struct.calcsize("=" + place):
        return None
    file.seek(min(struct.unpack(order + place, start)[0], size))
    raw = file.read(struct.calcsize("=" + number))
    if len(raw) < struct.calcsize("=" + number):
        return None
    (count,) = struct.unpack(order + number, raw)
    length, inline = struct.calcsize("=" + entry), struct.calcsize("=" + place)
    directory = file.read(min(count, MAX_TAGS + 1) * length)
    if len(directory) > MAX_TAGS * length:
        return f"more than {MAX_TAGS} tags"
    total = 0
    for at in range(0, len(directory) - length + 1, length):
        _, kind, values, where = struct.unpack_from(order + entry, directory, at)
        amount = TAG_BYTES.get(kind, 0) * values
        # What does not lie in the file is not read, either.
        total += amount if inline < amount <= size - where else 0
        if total > size + BLOCK or (kind not in RAW_TAGS and inline < amount <= size - where and values > MAX_NUMBERS):
            return f"tags of more bytes than the file's {size}, or one of more than {MAX_NUMBERS} numbers"
    return None
