"""Open HEIF, AVIF and JPEG XL, whose parsers are native and take a whole file at once.

Sizes are read from the header before a parser decodes, and metadata that the pixels don't need is not handed on.
"""

from __future__ import annotations

import io
import re
from itertools import islice
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image, ImageFile

from assay.data.picture_kinds import MODERN

PACKAGES = dict(zip(MODERN, ("pillow, with AVIF", "pillow-heif", "pyjpegxl"), strict=True))
"""The package that reads each format."""
BLOCK = 64
# A box `ispe` of ISO/IEC 23008-12: its length, its name, version and flags, then width and height.
SIZES = re.compile(rb"\0\0\0\x14ispe\0{4}(.{4})(.{4})", re.DOTALL)


class JxlImageFile(ImageFile.ImageFile):
    """A JPEG XL image for Pillow: 8 bits a channel, upright."""

    format = "JXL"
    format_description = "JPEG XL"

    def _open(self) -> None:
        import pyjpegxl

        pyjpegxl.set_num_threads(1)  # files are decoded side by side already
        assert self.fp is not None
        self.codestream = jxl_codestream(self.fp.read())
        found = pyjpegxl.probe(self.codestream)
        if jxl_moves(self.codestream):
            raise ValueError("Unsupported feature: an animation in JPEG XL, of which the reader gives the last frame")
        self._size = (found.width, found.height)
        self._mode = ("RGB" if found.num_color_channels == 3 else "L") + ("A" if found.has_alpha else "")

    def load(self) -> Any:
        if self._im is None:
            import pyjpegxl

            _, pixels = pyjpegxl.decode(self.codestream, dtype="uint8")
            self.im = Image.frombytes(self.mode, self.size, pixels).im
        return super().load()


def jxl_codestream(data: bytes) -> bytes:
    """The pixels of a JPEG XL file (ISO/IEC 18181-2) without the boxes around them.

    Metadata there may be compressed without end, and orientation stands in the pixels' own header.
    Raises ValueError where a box is cut short.
    """
    if data.startswith(b"\xff\x0a"):
        return data
    parts, start, last = [], 0, False
    while not last and len(head := data[start : start + 16]) >= 8:
        size, name, begin = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:], "big"), start + 16
        end = start + size if size else len(data)
        if not begin <= end <= len(data):
            raise ValueError(f"a box of {size} bytes is cut short")
        if name == b"jxlc":
            return data[begin:end]
        if name == b"jxlp":  # a part begins with its number, whose first bit says that it is the last
            parts.append(data[begin + 4 : end])
            last = data[begin : begin + 1] >= b"\x80"
        start = end
    return b"".join(parts)


def jxl_moves(codestream: bytes) -> bool:
    """Whether the header of a codestream (ISO/IEC 18181-1, annex D) announces an animation, or a preview before it."""
    bits = iter(f"{int.from_bytes(codestream[2:66], 'little'):0512b}"[::-1])

    def read(count: int) -> int:
        return int("".join(islice(bits, count))[::-1], 2)

    def skip_size() -> None:
        small = read(1)
        read(5 if small else (9, 13, 18, 30)[read(2)])
        if read(3) == 0:  # no ratio that spares the width
            read(5 if small else (9, 13, 18, 30)[read(2)])

    skip_size()
    if read(1) or not read(1):  # all as usual, or no more fields
        return False
    read(3)  # orientation
    if read(1):
        skip_size()
    return bool(read(2))


def largest_declared(data: bytes) -> tuple[int, int]:
    """Width and height of the largest picture that a HEIF or AVIF file declares, pixels, (0, 0) for none."""
    sizes = [(int.from_bytes(width, "big"), int.from_bytes(height, "big")) for width, height in SIZES.findall(data)]
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def open_modern(kind: str, file: BinaryIO, *, max_pixels: int) -> ImageFile.ImageFile:
    """Open a file of a format of `MODERN`; its pixels are decoded by ``load``.

    Raises:
        ImportError: the package that reads it is not installed.
        Image.DecompressionBombError: the file declares a picture of more than ``max_pixels``.
        what parsers raise on damaged bytes: OSError, ValueError, RuntimeError, SyntaxError, EOFError.
    """
    data = file.read()
    width, height = largest_declared(data) if kind != "JXL" else (0, 0)
    # What is coded may be wider and higher by less than a block of its coding; the picture's own size is checked later.
    if max(0, width - BLOCK) * max(0, height - BLOCK) > max_pixels:
        raise Image.DecompressionBombError(
            f"{width}x{height} pixels declared, at most {max_pixels} are taken (max_pixels)"
        )
    whole = io.BytesIO(data)
    if kind == "AVIF":
        if not AvifImagePlugin.SUPPORTED:
            raise ImportError("this Pillow was built without AVIF")
        return AvifImagePlugin.AvifImageFile(whole)
    if kind == "JXL":
        return JxlImageFile(whole)
    import pillow_heif

    # What only looks at more of a file; and one thread, since files are decoded side by side already.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return pillow_heif.HeifImageFile(whole)
