"""What kind of picture a file is: its first bytes decide, its name only says where to look.

The one place for suffixes and signatures. Nothing is parsed here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

PLAIN = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that Pillow reads by itself and that its header tells apart."""
MODERN = ("AVIF", "HEIF", "JXL")
"""Formats whose parsers take a whole file at once: `assay.data.modern_formats` opens them."""
HEAD_BYTES = 64
"""So many first bytes `kind_of` looks at."""

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
    *(".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".avifs", ".jxl"),
    # Pictures too, but none that is read: each becomes a row with its reason.
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    *(".jp2", ".j2k", ".jpx", ".psd"),
}
"""Of files that are pictures, read or not, in small letters."""

RAW = "raw camera data"
# First bytes of a kind. TIFF comes after what looks like it.
SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"RIFF....WEBP", "WEBP"),
    # Two letters are a word's beginning too: the size of the header that follows must be one of those there are.
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (rb"II\*\0....CR|II\x1a\0....HEAPCCDR|FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\0|FOVb|\0MRM", RAW),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (rb"8BPS\0[\x01\x02]", "Photoshop"),
)
PATTERN = re.compile(b"|".join(b"(%s)" % signature for signature, _ in SIGNATURES), re.DOTALL)
# ISO/IEC 23008-12 and AV1 Image File Format: brands of single pictures and of sequences.
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
COMMON_BRANDS = {b"mif1", b"mif2", b"msf1"}


def kind_of(head: bytes) -> str | None:
    """The kind of a picture by the first `HEAD_BYTES` bytes of its file; None for what is no picture.

    One of `PLAIN` or `MODERN`, or in words one that is not read.
    """
    if head[4:8] == b"ftyp":
        return _kind_of_brands(head)
    found = PATTERN.match(head)
    return SIGNATURES[int(found.lastindex or 1) - 1][1] if found else None


def _kind_of_brands(head: bytes) -> str | None:
    """The kind of a file of boxes: its main brand, or where that only says "picture" the ones it is compatible with."""
    main, end = head[8:12], min(int.from_bytes(head[:4], "big"), len(head))
    brands = {main} | {head[start : start + 4] for start in range(16, end, 4)}
    if main in AVIF_BRANDS or (main in COMMON_BRANDS and brands & AVIF_BRANDS):
        return "AVIF"
    if main in HEIF_BRANDS:
        return "HEIF"
    return RAW if main == b"crx " else None


def looks_like_a_picture(path: str) -> bool:
    """Whether a file's suffix or its first bytes say that it is a picture; of a hidden file the bytes alone are asked.

    Raises:
        OSError: the file can't be read, where its suffix does not tell.
    """
    name = os.path.basename(path)
    if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
        return True
    try:
        with open_regular(path) as file:
            return kind_of(file.read(HEAD_BYTES)) is not None
    except NotRegular:
        return False


class NotRegular(OSError):
    """What is there is no regular file but a folder, pipe, socket or device."""


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file to read its bytes; nothing is waited for, and what was opened is what was looked at.

    Raises:
        NotRegular: something else is there.
        OSError: nothing is there, or it can't be read.
    """
    # Opening a pipe would wait for its other end, and a terminal would become the process's own.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # how a socket refuses
            raise NotRegular(error.errno, "not a regular file") from error
        raise
    file = os.fdopen(handle, "rb") if stat.S_ISREG(os.fstat(handle).st_mode) else None
    if file is None:
        os.close(handle)
        raise NotRegular(errno.EINVAL, "not a regular file")
    return file
