"""Decode untrusted image files to RGB, or say why not.

A file that cannot be used raises `ImageRejected` with a fixed reason, so that a caller can write a row for it. Limits
are checked before pixels are decoded. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from assay.data.modern_formats import PACKAGES, open_modern
from assay.data.picture_costs import exif_problem, too_costly
from assay.data.picture_kinds import HEAD_BYTES, MODERN, PLAIN, RAW, kind_of, open_regular

FORMATS = (*PLAIN, *MODERN)
"""The only parsers that a file can reach, whatever its name says."""
MAX_FILE_BYTES = 2**28
"""Of a picture's file, where nobody says otherwise: more than the largest picture takes without compression."""
# A picture of fewer pixels is decoded whatever others are: so many are never in work that it would matter.
SMALL = 2**20
# Rows converted at a time; the whole picture in every form on the way would take several times its size.
STRIP = 256


class Reason(StrEnum):
    """Why a file was rejected."""

    NOT_A_FILE = "not_a_file"  # missing, a folder, a device, or not readable
    NOT_AN_IMAGE = "not_an_image"  # empty, or no format of `FORMATS`
    TRUNCATED = "truncated"  # cut short or damaged
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MUCH_MEMORY = "too_much_memory"  # of its decoder
    TOO_SLOW = "too_slow"  # more scans than any encoder makes, or more time than a picture may take
    CRASHED = "crashed"  # its decoder, which is native code
    METADATA_BOMB = "metadata_bomb"  # text or profile that unpacks without end, or more tags than the file has bytes
    TOO_SMALL = "too_small"
    UNSUPPORTED_MODE = "unsupported_mode"  # pixels that have no agreed 8-bit RGB form
    UNSUPPORTED_FORMAT = "unsupported_format"  # a picture, but raw camera data or the like, or its package is missing


class ImageRejected(ValueError):
    """A file that cannot be used. `reason` is fixed, `detail` explains; neither holds a path."""

    def __init__(self, reason: Reason, detail: str, name: str = "") -> None:
        super().__init__(reason, detail, name)
        self.reason = reason
        self.detail = detail
        self.name = name

    def __str__(self) -> str:
        return f"{self.name or 'image'}: {self.reason}: {self.detail}"


@dataclass(frozen=True)
class ImageInfo:
    """What a file's header says.

    `width` and `height` in pixels, before EXIF orientation (TIFF, HEIF, JXL: after); `format` one of `FORMATS`;
    `jpeg_quality` 1..100, -1 for another format; `is_lossy` whether coding loses detail (AVIF, HEIF, JXL: their headers
    don't tell, and it is True).
    """

    width: int
    height: int
    format: str
    file_bytes: int
    jpeg_quality: int
    is_lossy: bool


def decode_rgb(path: str | Path, *, max_pixels: int, min_side: int = 1, **options: Any) -> np.ndarray:
    """The image as uint8 [H, W, 3], upright. See `decode_with_info`."""
    return decode_with_info(path, max_pixels=max_pixels, min_side=min_side, **options)[0]


def probe(path: str | Path, *, max_pixels: int, max_bytes: int = MAX_FILE_BYTES) -> ImageInfo:
    """Read the header only. Raises ImageRejected; a file that passes may still fail to decode."""
    with _opened(Path(path), max_pixels=max_pixels, max_bytes=max_bytes) as (_, info):
        return info


def decode_with_info(
    path: str | Path,
    *,
    max_pixels: int,
    min_side: int = 1,
    max_bytes: int = MAX_FILE_BYTES,
    reserve: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, ImageInfo]:
    """The image as uint8 [H, W, 3] and its header, from one opening of the file.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and of an animation the
    first frame is taken. Raises ImageRejected: before reading where the file has more than `max_bytes`, before decoding
    where the header declares more than `max_pixels` (or than PIL's own limit) or a side shorter than `min_side`. A file
    cut short is rejected, not padded; only a JPEG whose end marker comes too early passes, because libjpeg fills it.

    ``reserve`` is called with the number of pixels before those of a large image are decoded. Time is not limited here: what
    comes from outside is decoded in processes that can be ended (`assay.data.decoders`).
    """
    with _opened(Path(path), max_pixels=max_pixels, max_bytes=max_bytes) as (image, info):
        if min(info.width, info.height) < min_side:
            detail = f"{info.width}x{info.height} pixels, at least {min_side} a side are needed"
            raise ImageRejected(Reason.TOO_SMALL, detail)
        if reserve is not None and info.width * info.height > SMALL:
            reserve(info.width * info.height)
        image.load()
        # Metadata last: some formats keep it behind the pixels.
        rgb = _rgb_array(image)
        turn = _TURNS.get(_orientation(image))
        return rgb if turn is None else np.ascontiguousarray(turn(rgb)), info


# What parsers and decoders raise on hostile bytes, native ones RuntimeError; anything else is a bug and must surface.
_BAD_VALUES = (SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError)
_BAD_BYTES = (OSError, EOFError, struct.error, zlib.error, *_BAD_VALUES)


@contextmanager
def _opened(path: Path, *, max_pixels: int, max_bytes: int) -> Iterator[tuple[ImageFile.ImageFile, ImageInfo]]:
    """Open `path`, check its header; what its bytes do wrong, here or in the block, becomes ImageRejected."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on and would pad images; switch it off")
    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    try:
        with _open_file(path, max_bytes=max_bytes) as file, _open_kind(file, max_pixels=limit) as image:
            if image.width * image.height > limit:
                declared = f"{image.width}x{image.height} pixels declared"
                raise Image.DecompressionBombError(f"{declared}, at most {limit} are taken (max_pixels)")
            yield image, _info(image, file)
    except ImageRejected as error:
        raise ImageRejected(error.reason, error.detail, path.name) from error.__cause__
    except UnidentifiedImageError as error:  # its text holds the path
        raise ImageRejected(Reason.NOT_AN_IMAGE, f"none of {', '.join(FORMATS)}", path.name) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        more = "; Pillow takes no more" if limit < max_pixels else ""
        raise ImageRejected(Reason.TOO_MANY_PIXELS, f"{error}{more}", path.name) from error
    except MemoryError as error:
        raise ImageRejected(Reason.TOO_MUCH_MEMORY, "its decoder asked for more than there is", path.name) from error
    except _BAD_BYTES as error:
        raise ImageRejected(_reason(str(error)), f"{type(error).__name__}: {error}", path.name) from error


def _reason(message: str) -> Reason:
    """Which reason a parser's error is: limits and gaps of parsers are named in their messages only."""
    if "MAX_TEXT" in message:
        return Reason.METADATA_BOMB
    if "Security limit exceeded" in message:  # of libheif
        return Reason.TOO_MANY_PIXELS
    return Reason.UNSUPPORTED_FORMAT if message.startswith("Unsupported f") else Reason.TRUNCATED


def _open_kind(file: BinaryIO, *, max_pixels: int) -> ImageFile.ImageFile:
    """Open a picture with the one parser that its first bytes name; what they don't name Pillow may look at."""
    kind = kind_of(file.read(HEAD_BYTES))
    if costly := too_costly(kind, file):
        raise ImageRejected(Reason.METADATA_BOMB if costly.is_metadata else Reason.TOO_SLOW, costly.detail)
    file.seek(0)
    if kind in MODERN:
        try:
            return open_modern(kind, file, max_pixels=max_pixels)
        except ImportError as error:
            detail = f"{kind} is read by the package {PACKAGES[kind]}, which is not installed ({error})"
            raise ImageRejected(Reason.UNSUPPORTED_FORMAT, detail) from error
    image = None if kind not in (*PLAIN, None) else _open_plain(kind, file)
    if image is None or _is_raw(image):
        detail = f"{kind if image is None else RAW}: make a JPEG, PNG or TIFF of it"
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, detail)
    return image


def _open_plain(kind: str | None, file: BinaryIO) -> ImageFile.ImageFile:
    """Open a picture with Pillow, of any size: its own limit comes before ours and does not tell the sides."""
    try:
        return Image.open(file, formats=PLAIN)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        if kind is None:
            raise
        file.seek(0)
        # The parser alone, which has read the header and found it whole just now.
        return Image.OPEN[kind][0](file, "")


def _is_raw(image: ImageFile.ImageFile) -> bool:
    """Whether a TIFF is a camera's: DNG by its version, others by a preview that comes before the picture proper."""
    tags = getattr(image, "tag_v2", {})
    preview = tags.get(ExifTags.Base.NewSubfileType, 0) == 1 and ExifTags.Base.SubIFDs in tags
    return ExifTags.Base.DNGVersion in tags or preview


def _open_file(path: Path, *, max_bytes: int) -> BinaryIO:
    """Open a regular file of at most ``max_bytes``; ImageRejected for all else."""
    try:
        file = open_regular(path)
    except OSError as error:
        raise ImageRejected(Reason.NOT_A_FILE, error.strerror or type(error).__name__) from error
    if (size := os.fstat(file.fileno()).st_size) > max_bytes:
        file.close()
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"a file of {size} bytes, at most {max_bytes} are taken")
    return file


def _info(image: ImageFile.ImageFile, file: BinaryIO) -> ImageInfo:
    # Phones store several JPEGs in one file; the first is a plain JPEG.
    name = "JPEG" if isinstance(image, JpegImageFile) else str(image.format)
    compression = str(image.info.get("compression", ""))
    lossy = name == "JPEG" or (name == "TIFF" and compression in ("jpeg", "tiff_jpeg", "webp"))
    lossy = lossy or name in MODERN or (name == "WEBP" and _webp_is_lossy(file))
    return ImageInfo(
        width=image.width,
        height=image.height,
        format=name,
        file_bytes=os.fstat(file.fileno()).st_size,
        jpeg_quality=_jpeg_quality(image) if isinstance(image, JpegImageFile) else -1,
        is_lossy=lossy,
    )


def _webp_is_lossy(file: BinaryIO) -> bool:
    """Whether the first image of a WebP file is coded as VP8 (lossy) rather than VP8L (RFC 9649)."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        tag, size = head[:4], int.from_bytes(head[4:], "little")
        if tag in (b"VP8 ", b"VP8L"):
            return tag == b"VP8 "
        file.seek(16 if tag == b"ANMF" else size + size % 2, 1)  # the chunks of a frame lie inside ANMF
    return False


def _jpeg_quality(image: JpegImageFile) -> int:
    """The libjpeg quality, 1..100, whose luminance table is nearest to the file's; -1 if it has no table."""
    table = image.quantization.get(image.layer[0][3]) if image.layer else None
    if table is None:
        return -1
    distance = np.abs(_luminance_tables() - np.asarray(table, dtype=np.int64)).sum(axis=1)
    return 1 + int(distance.argmin())


@lru_cache(maxsize=1)
def _luminance_tables() -> np.ndarray:
    """int64 [100, 64]: the luminance tables of quality 1..100 (ITU-T T.81, table K.1, scaled), as libjpeg writes them."""
    tables = []
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer, formats=("JPEG",)) as image:
            assert isinstance(image, JpegImageFile)
            tables.append(image.quantization[0])
    return np.array(tables, dtype=np.int64)


def _rgb_array(image: Image.Image) -> np.ndarray:
    """The pixels of a loaded image as uint8 [H, W, 3]; ImageRejected where no agreed conversion exists."""
    peak = _gray16_peak(image) if image.mode.startswith("I;16") else None
    width, height = image.size
    found = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, STRIP):
        strip = image.crop((0, top, width, min(top + STRIP, height)))
        found[top : top + STRIP] = np.asarray(_to_rgb(strip, peak=peak))
    return found


def _to_rgb(image: Image.Image, *, peak: int | None) -> Image.Image:
    """A loaded image in mode RGB, or ImageRejected (32-bit, float, Lab); ``peak`` is white in 16-bit grey."""
    if peak is not None:
        values = np.asarray(image).astype(np.uint32)
        # White to white; PIL's own conversion clips at 255.
        return Image.fromarray(((values * 255 + peak // 2) // peak).astype(np.uint8)).convert("RGB")
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        raise ImageRejected(Reason.UNSUPPORTED_MODE, f"pixel mode {image.mode}")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), clear).convert("RGB")


def _gray16_peak(image: Image.Image) -> int:
    """The value of white in 16-bit grey."""
    # TIFF alone has tags: there 12-bit pixels come in this mode too, and so do inverted ones.
    tags = getattr(image, "tag_v2", {})
    if tags.get(ExifTags.Base.PhotometricInterpretation, 1) != 1:
        raise ImageRejected(Reason.UNSUPPORTED_MODE, "16-bit grey with white as zero")
    return int(2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1)


# How to turn pixels [H, W, 3] stored with EXIF orientation 2..8 upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none; broken EXIF counts as none, as in browsers."""
    if image.format in ("HEIF", "JXL"):  # their decoders have turned it: EXIF only repeats what the file says itself
        return 1
    try:
        if exif_problem(_exif_bytes(image)):
            return 1
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BAD_BYTES:
        return 1
    return value if isinstance(value, int) else 1


def _exif_bytes(image: Image.Image) -> bytes:
    """The EXIF data that Pillow would read; of a PNG those that stand in a text as digits, too."""
    if isinstance(found := image.info.get("exif"), bytes):
        return found
    text = image.info.get("Raw profile type exif", "")
    return bytes.fromhex("".join(str(text).split("\n")[3:]))
