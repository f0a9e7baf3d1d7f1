"""Pictures that cost more than their pixels: known before a parser sees them, or ended when they take too long."""

import io
import os
import socket
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from assay.core.parallel import Ended
from assay.data.decode import ImageInfo, ImageRejected, Reason, decode_rgb, probe
from assay.data.decoders import PictureLimits, decoders, header_or_reason, rejection
from assay.data.picture_costs import MAX_SCANS, MAX_SEGMENTS
from assay.data.picture_kinds import NotRegular, looks_like_a_picture, open_regular

LIMITS = PictureLimits(max_pixels=1_000_000, max_bytes=2**26, seconds=1.0)


def photo(kind: str = "JPEG", side: int = 48, **options: object) -> bytes:
    y, x = np.mgrid[0:side, 0:side]
    pixels = np.stack([x * 5, y * 5, x + y], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body


def with_segments(*segments: bytes) -> bytes:
    data = photo()
    return data[:2] + b"".join(segments) + data[2:]


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there so often that there are ``count``."""
    data = photo(progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


def tags(*entries: tuple[int, int, int, int], body: bytes = b"") -> bytes:
    """A little TIFF directory (number, type, count, place) with ``body`` behind it."""
    head = struct.pack("<2sHLH", b"II", 42, 8, len(entries))
    return head + b"".join(struct.pack("<HHLL", *entry) for entry in entries) + bytes(4) + body


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    data = photo("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def overlapping(count: int = 2000, size: int = 60_000) -> bytes:
    """Tags of the same bytes, so that each is a copy of all of them."""
    place = 14 + 12 * count
    return tags(*((number, 7, size, place) for number in range(1, count + 1)), body=bytes(size))


def big_tiff(count: int) -> bytes:
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", count)
    return head + struct.pack("<HHQQ", 256, 3, 1, 1) * count + bytes(8)


COSTLY = {
    "8,000 tiny segments of EXIF": (with_segments(*[segment(0xE1, b"Exif\0\0II")] * 8000), Reason.METADATA_BOMB),
    "more segments than any file has": (
        with_segments(*[segment(0xE5, b"x")] * (MAX_SEGMENTS + 1)),
        Reason.METADATA_BOMB,
    ),
    "stray bytes": (with_segments(b"\xff" * 100_000), Reason.METADATA_BOMB),
    "tags of the same bytes, in EXIF": (
        with_segments(*[segment(0xE1, b"Exif\0\0" + overlapping(400, 50_000)[:65_000])] * 1),
        Reason.METADATA_BOMB,
    ),
    "4,000 scans": (with_scans(4000), Reason.TOO_SLOW),
    "more scans than encoders make": (with_scans(MAX_SCANS + 1), Reason.TOO_SLOW),
    "tags of the same bytes, in TIFF": (overlapping(), Reason.METADATA_BOMB),
    "a tag of millions of numbers": (tags((273, 3, 2**21, 26), body=bytes(2**22 + 64)), Reason.METADATA_BOMB),
    "more tags than there are": (big_tiff(70_000), Reason.METADATA_BOMB),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_more_than_its_pixels_is_known_before_it_is_parsed(tmp_path: Path, name: str) -> None:
    data, reason = COSTLY[name]
    (path := tmp_path / "a").write_bytes(data)
    begin = time.process_time()
    with pytest.raises(ImageRejected) as caught:
        decode_rgb(path, max_pixels=10**6)
    assert caught.value.reason == reason
    assert time.process_time() - begin < 1


HONEST = {
    "progressive": photo(progressive=True),
    "more scans than usual": with_scans(40),
    "a profile in parts": with_segments(
        *[segment(0xE2, b"ICC_PROFILE\0" + bytes([n, 30]) + bytes(60_000)) for n in range(1, 31)]
    ),
    "a depth map in parts": with_segments(
        *[segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))] * 200
    ),
    "EXIF whose tags lie nowhere": with_segments(segment(0xE1, b"Exif\0\0" + tags((271, 2, 2**31, 2**30)))),
    "TIFF with many strips": photo("TIFF"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", HONEST)
def test_honest_files_are_far_below_the_limits(tmp_path: Path, name: str) -> None:
    (path := tmp_path / "a").write_bytes(HONEST[name])
    assert decode_rgb(path, max_pixels=10**6).shape == (48, 48, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_costs_too_much_is_none(tmp_path: Path, kind: str) -> None:
    """As broken EXIF is: the picture itself is sound, and taken as it is stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = photo(kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))
    bomb = overlapping(3000, 2**20)
    data = png_with(chunk(b"eXIf", bomb)) if kind == "PNG" else photo(kind, exif=bomb, lossless=True)
    found = []
    for number, content in enumerate((turned, data)):
        (path := tmp_path / f"{number}").write_bytes(content)
        begin = time.process_time()
        found.append(decode_rgb(path, max_pixels=10**6))
        assert time.process_time() - begin < 1
    np.testing.assert_array_equal(found[0], np.rot90(found[1], -1))


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    (path := tmp_path / "a.webp").write_bytes(photo("WEBP"))
    os.truncate(path, 3 * 2**30)  # sparse: it takes no room
    with pytest.raises(ImageRejected, match=r"too_many_bytes: a file of 3221225472 bytes, at most 268435456 are taken"):
        probe(path, max_pixels=10**6)
    path.write_bytes(content := photo("PNG"))
    assert decode_rgb(path, max_pixels=10**6, max_bytes=len(content)).shape == (48, 48, 3)
    with pytest.raises(ImageRejected, match="too_many_bytes"):
        decode_rgb(path, max_pixels=10**6, max_bytes=len(content) - 1)


def test_nothing_is_waited_for_that_is_no_file(tmp_path: Path) -> None:
    """Each name is opened at once, not looked at before: what it was then may be something else by now."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        (tmp_path / "device").symlink_to("/dev/zero")
        (tmp_path / "folder").mkdir()
        for path in sorted(tmp_path.iterdir()):
            with pytest.raises(NotRegular, match="not a regular file"):
                open_regular(path)
            assert not looks_like_a_picture(str(path))
            with pytest.raises(ImageRejected, match="not_a_file"):
                probe(path, max_pixels=10**6)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")


def test_a_picture_that_no_count_finds_is_ended_and_the_next_one_read(tmp_path: Path) -> None:
    slow, memory, sound = (tmp_path / name for name in ("slow", "memory", "sound"))
    slow.write_bytes(png_with(chunk(b"abCd", b"") * 3_000_000))
    (tmp_path / "sound").write_bytes(photo())
    memory.write_bytes(png_with(chunk(b"prVt", b"x")))
    with decoders(header_or_reason, count=1, max_pixels=LIMITS.max_pixels, seconds=LIMITS.seconds) as readers:
        found = [result for _, result in readers.map([slow, sound, slow, memory], limits=LIMITS, whole=True)]
    for ended in (found[0], found[2]):
        assert isinstance(ended, Ended)
        error = rejection(ended)
        assert error.reason == Reason.TOO_SLOW
        assert error.detail.startswith("more than ")  # where the machine is busy, the clock may be first
    for info in (found[1], found[3]):
        assert isinstance(info, ImageInfo)
        assert (info.width, info.height) == (48, 48)
