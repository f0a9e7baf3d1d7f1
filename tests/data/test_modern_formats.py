"""HEIF, AVIF and JPEG XL as their writers write them, cut short, too large, damaged, or without what reads them."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pyjpegxl
import pytest
from PIL import ExifTags, Image

from assay.data import modern_formats
from assay.data.decode import ImageRejected, Reason, decode_rgb, decode_with_info, probe

LIMIT = 1_000_000
KINDS = ("HEIF", "AVIF", "JXL", "JXL in boxes")
# What is stored for an orientation, so that it turns upright.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# Two frames of 8x8 pixels, lossless: the first light, the second black. No writer at hand makes one.
MOVING = "ff0a41044d002026080401003c004b188b15805dd4ff001892ae9ad003080405001c004b188b15820300"


def written(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    """A file of a kind, nearly or wholly without loss."""
    if kind.startswith("JXL"):
        data = pyjpegxl.encode_from_numpy(np.ascontiguousarray(pixels), lossless=True)
        return data if kind == "JXL" else boxes(data)
    pillow_heif.register_heif_opener()
    best = {"quality": -1, "chroma": 444} if kind == "HEIF" else {"quality": 100, "subsampling": "4:4:4"}
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **best | options)
    return buffer.getvalue()


def box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def boxes(codestream: bytes) -> bytes:
    """A JPEG XL file whose codestream comes in two parts, with metadata around them."""
    start = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"Exif", bytes(40))
    first = box(b"jxlp", bytes(4) + codestream[:7])
    return start + first + box(b"brob", b"xml \0\0") + box(b"jxlp", b"\x80\0\0\1" + codestream[7:])


def rejection(path: Path, *, max_pixels: int = LIMIT) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_rgb(path, max_pixels=max_pixels)
    assert str(path.parent) not in f"{caught.value} {caught.value.detail}"
    return caught.value


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """uint8 [40, 60, 3], smooth, every corner another colour."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y * 3], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_and_header(tmp_path: Path, kind: str, image: np.ndarray) -> None:
    (path := tmp_path / "named.jpg").write_bytes(written(image, kind))
    rgb, info = decode_with_info(path, max_pixels=2400)
    assert probe(path, max_pixels=2400) == info
    assert (info.width, info.height, info.format, info.jpeg_quality) == (60, 40, kind.split()[0], -1)
    assert (info.file_bytes, info.is_lossy) == (path.stat().st_size, True)
    assert (rgb.dtype, rgb.shape, rgb.flags.writeable) == (np.uint8, (40, 60, 3), True)
    assert np.abs(rgb.astype(int) - image).max() <= 3
    assert rejection(path, max_pixels=2399).detail == "60x40 pixels declared, at most 2399 are taken (max_pixels)"
    grey = image[..., 0]
    path.write_bytes(written(grey, kind))
    assert np.abs(decode_rgb(path, max_pixels=LIMIT).astype(int) - grey[..., None]).max() <= 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_what_is_cut_short_is_truncated(tmp_path: Path, kind: str, part: float, image: np.ndarray) -> None:
    data = written(image, kind)
    (path := tmp_path / "a").write_bytes(data[: max(12, int(part * len(data)))])
    assert rejection(path).reason == Reason.TRUNCATED
    with pytest.raises(ImageRejected, match="truncated"):
        decode_rgb(path, max_pixels=LIMIT)


def declaring(side: int, data: bytes, kind: str) -> bytes:
    """The file of a picture with the size of another written into its header."""
    if kind.startswith("JXL"):  # sizes of 13 bits become sizes of 30
        rest = int.from_bytes(written(np.zeros((3001, 2003, 3), np.uint8), "JXL")[2:], "little") >> 34
        header = 3 << 1 | (side - 1) << 3 | 3 << 36 | (side - 1) << 38 | rest << 68
        data = b"\xff\x0a" + header.to_bytes(header.bit_length() // 8 + 1, "little")
        return data if kind == "JXL" else boxes(data)
    start = data.index(b"ispe") + 8
    return data[:start] + struct.pack(">II", side, side) + data[start + 8 :]


@pytest.mark.parametrize("side", [1065, 60_000, 2**30])
@pytest.mark.parametrize("kind", KINDS)
def test_a_size_beyond_the_limit_is_refused_before_a_parser_decodes(tmp_path, monkeypatch, kind, side, image):
    (path := tmp_path / "a").write_bytes(declaring(side, written(image, kind), kind))
    for name in ("pyjpegxl.decode", "pillow_heif.HeifImageFile", "PIL.AvifImagePlugin.AvifImageFile"):
        monkeypatch.setattr(name, None)
    error = rejection(path)
    assert error.reason == Reason.TOO_MANY_PIXELS
    assert error.detail == f"{side}x{side} pixels declared, at most {LIMIT} are taken (max_pixels)"


def test_a_stream_larger_than_its_box_says_is_refused(tmp_path: Path) -> None:
    data = written(np.zeros((1200, 1200, 3), np.uint8), "HEIF")
    (path := tmp_path / "a").write_bytes(data.replace(struct.pack(">II", 1200, 1200), struct.pack(">II", 64, 64)))
    assert rejection(path).reason == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["HEIF", "AVIF", "JXL"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied_once(tmp_path: Path, orientation: int, kind: str, image: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright, turn = Image.fromarray(image), STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    if kind == "JXL":  # its writer turns only what comes from a JPEG
        stored.save(buffer := io.BytesIO(), "JPEG", exif=exif, quality=95, subsampling=0)
        data = pyjpegxl.jpeg_to_jxl(buffer.getvalue())
    else:
        data = written(np.asarray(stored), kind, exif=exif.tobytes())
    (path := tmp_path / "a").write_bytes(data)
    rgb, info = decode_with_info(path, max_pixels=LIMIT)
    assert rgb.shape == image.shape
    assert np.abs(rgb.astype(int) - image).mean() < 3
    assert kind == "AVIF" or (info.width, info.height) == (60, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_transparency_is_laid_on_white(tmp_path: Path, kind: str) -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., 0], rgba[:, :32, 3] = 200, 255
    (path := tmp_path / "a").write_bytes(written(rgba, kind))
    rgb = decode_rgb(path, max_pixels=LIMIT).astype(int)
    assert np.abs(rgb[5, [5, 60]] - [[200, 0, 0], [255, 255, 255]]).max() <= 2


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_colours_are_scaled_to_8_bits(tmp_path, monkeypatch, bits, image):
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    deep = pillow_heif.from_bytes("RGB;16", (60, 40), (image.astype(np.uint16) * 257).tobytes())
    deep.save(path := tmp_path / "a.heic", quality=-1, chroma=444)
    assert np.abs(decode_rgb(path, max_pixels=LIMIT).astype(int) - image).max() <= 2
    (path := tmp_path / "a.jxl").write_bytes(pyjpegxl.encode_from_numpy(image.astype(np.uint16) * 257, lossless=True))
    assert np.abs(decode_rgb(path, max_pixels=LIMIT).astype(int) - image).max() <= 1


def test_of_several_pictures_the_main_one_is_taken(tmp_path: Path, image: np.ndarray) -> None:
    red, blue, lime = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue", "lime"))
    pillow_heif.register_heif_opener()
    red.save(tmp_path / "blue.heic", save_all=True, append_images=[blue, lime], primary_index=1)
    red.save(tmp_path / "red.avif", save_all=True, append_images=[blue, lime])
    red.save(tmp_path / "red.mpo", save_all=True, append_images=[blue, lime])
    for path in sorted(tmp_path.iterdir()):
        wanted = (255, 0, 0) if path.stem == "red" else (0, 0, 255)
        assert np.abs(decode_rgb(path, max_pixels=LIMIT).astype(int) - wanted).max() <= 3, path
    assert probe(tmp_path / "red.mpo", max_pixels=LIMIT).format == "JPEG"
    tiles = np.tile(image, (4, 4, 1))  # as phones write theirs
    (path := tmp_path / "tiles.heic").write_bytes(written(tiles, "HEIF", tile_size=64, thumbnails=[32]))
    assert np.abs(decode_rgb(path, max_pixels=LIMIT).astype(int) - tiles).max() <= 2


@pytest.mark.parametrize("wrap", [bytes, boxes], ids=["bare", "in boxes"])
def test_an_animation_in_jpeg_xl_is_refused(tmp_path: Path, wrap) -> None:
    (path := tmp_path / "a.jxl").write_bytes(wrap(bytes.fromhex(MOVING)))
    error = rejection(path)
    assert error.reason == Reason.UNSUPPORTED_FORMAT
    assert "animation" in error.detail


@pytest.mark.parametrize("side", [(8, 8), (60, 40), (1000, 500), (3, 700), (256, 256)])
def test_a_still_jpeg_xl_is_no_animation(side: tuple[int, int]) -> None:
    for lossless in (False, True):
        data = pyjpegxl.encode_from_numpy(np.zeros((*side, 3), np.uint8), lossless=lossless)
        assert not modern_formats.jxl_moves(data)


@pytest.mark.parametrize(("kind", "module"), [("HEIF", "pillow_heif"), ("JXL", "pyjpegxl"), ("AVIF", None)])
def test_without_its_package_a_file_is_refused_by_name(tmp_path, monkeypatch, kind, module, image):
    (path := tmp_path / "a").write_bytes(written(image, kind))
    if module is None:
        monkeypatch.setattr(modern_formats.AvifImagePlugin, "SUPPORTED", False)
    else:
        monkeypatch.setitem(sys.modules, module, None)
    error = rejection(path)
    assert error.reason == Reason.UNSUPPORTED_FORMAT
    assert f"{kind} is read by the package {modern_formats.PACKAGES[kind]}, which is not installed" in error.detail


DAMAGE = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
from assay.data.decode import ImageRejected, decode_rgb

path, rng = Path(sys.argv[1]), np.random.default_rng(0)
sound, pixels = np.frombuffer(path.read_bytes(), np.uint8), 0
for number in range(400):
    data = sound.copy()
    data[rng.integers(0, len(data) if number % 2 else min(len(data), 500))] = rng.integers(0, 256)
    path.write_bytes(data.tobytes())
    with suppress(ImageRejected):
        pixels += decode_rgb(path, max_pixels=100_000).shape[2] == 3
print(pixels)
"""


@pytest.mark.parametrize("kind", [*KINDS, "MPO"])
def test_a_damaged_byte_gives_pixels_or_a_reason(tmp_path: Path, kind: str, image: np.ndarray) -> None:
    """In a process of its own: what a native parser could do at worst is to end it."""
    path = tmp_path / "a"
    if kind == "MPO":
        Image.fromarray(image).save(path, kind, save_all=True, append_images=[Image.fromarray(image)])
    else:
        path.write_bytes(written(image, kind))
    command = [sys.executable, "-W", "ignore", "-c", DAMAGE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 400
