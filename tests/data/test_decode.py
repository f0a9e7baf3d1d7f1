"""Every way an image can come, and every way a file can be no image."""

import os
import pickle
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile

from assay.data.decode import ImageRejected, Reason, decode_rgb, decode_with_info, probe

LIMIT = 1_000_000


def rejection(path: Path, *, max_pixels: int = LIMIT, min_side: int = 1) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        decode_rgb(path, max_pixels=max_pixels, min_side=min_side)
    assert str(path.parent) not in f"{caught.value} {caught.value.detail}"
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(header: bytes, *chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.fixture
def image() -> np.ndarray:
    """uint8 [40, 60, 3], smooth, every corner another colour."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([x * 4, y * 6, 255 - x * 2 - y * 3], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("data", [b"", b"this is no photo\n" * 50, b"%!PS-Adobe-3.0\n", b"P6 1 1 255 abc"])
def test_other_files_named_jpg_are_no_images(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert rejection(path).reason == Reason.NOT_AN_IMAGE


def test_things_that_are_no_files(tmp_path: Path, image: np.ndarray) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "missing.jpg", *sorted(tmp_path.iterdir())):
        assert rejection(path).reason == Reason.NOT_A_FILE
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    np.testing.assert_array_equal(decode_rgb(tmp_path / "link.png", max_pixels=LIMIT), image)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.99])
def test_a_truncated_jpeg_is_rejected_not_padded(tmp_path: Path, part: float, options: dict[str, bool]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path := tmp_path / "a.jpg", **options)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    wanted = {Reason.TRUNCATED} if part > 0.1 else {Reason.TRUNCATED, Reason.NOT_AN_IMAGE}
    assert rejection(path).reason in wanted


def test_half_of_any_format_is_rejected(tmp_path: Path, image: np.ndarray) -> None:
    for suffix in ("png", "webp", "bmp", "tif", "gif"):
        Image.fromarray(image).save(path := tmp_path / f"a.{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert rejection(path).reason == Reason.TRUNCATED, suffix


def test_padding_switched_on_elsewhere_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        decode_rgb(tmp_path / "a.jpg", max_pixels=LIMIT)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound PNG of 60000x60000 black pixels, half a megabyte long."""
    packer, row = zlib.compressobj(1), bytes(1 + 60000 // 8)
    data = b"".join([packer.compress(row * 600) for _ in range(100)] + [packer.flush()])
    path = tmp_path_factory.mktemp("bomb") / "bomb.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0), chunk(b"IDAT", data)))
    return path


@pytest.mark.parametrize("max_pixels", [LIMIT, 10**12])
def test_a_pixel_bomb_is_rejected_by_its_header(bomb: Path, max_pixels: int) -> None:
    error = rejection(bomb, max_pixels=max_pixels)
    most, more = (LIMIT, "") if max_pixels == LIMIT else (Image.MAX_IMAGE_PIXELS, "; Pillow takes no more")
    assert error.reason == Reason.TOO_MANY_PIXELS
    assert error.detail == f"60000x60000 pixels declared, at most {most} are taken (max_pixels){more}"
    with pytest.raises(ImageRejected, match="too_many_pixels"):
        probe(bomb, max_pixels=max_pixels)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pil_holds_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"  # between PIL's warning and its error
    header = struct.pack(">IIBBBBB", 10000, 9500, 1, 0, 0, 0, 0)
    path.write_bytes(png(header, chunk(b"IDAT", zlib.compress(b""))))
    assert rejection(path, max_pixels=10**12).reason == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_metadata_without_end_is_rejected(tmp_path: Path, kind: bytes, behind: bool) -> None:
    between = b"\0\0" if kind != b"iTXt" else b"\0\1\0\0\0"
    metadata = chunk(kind, b"Comment" + between + zlib.compress(bytes(100_000_000), 9))
    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
    parts = (pixels, metadata) if behind else (metadata, pixels)
    path = tmp_path / "a.png"
    path.write_bytes(png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0), *parts))
    assert rejection(path).reason == Reason.METADATA_BOMB


def test_large_and_small_images_are_rejected_before_decoding(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(path := tmp_path / "a.jpg")
    assert decode_rgb(path, max_pixels=2400).shape == (40, 60, 3)
    assert rejection(path, max_pixels=2399).detail == "60x40 pixels declared, at most 2399 are taken (max_pixels)"
    path.write_bytes(path.read_bytes()[:700])  # the header is whole, the pixels are not
    assert rejection(path, min_side=41).reason == Reason.TOO_SMALL
    assert rejection(path, min_side=40).reason == Reason.TRUNCATED


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_modes_without_an_agreed_rgb_form_are_rejected(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    assert rejection(tmp_path / "a.tif").reason == Reason.UNSUPPORTED_MODE


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    orange = np.full((16, 16, 3), (240, 120, 20), np.uint8)
    Image.fromarray(orange).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode_rgb(tmp_path / "a.jpg", max_pixels=LIMIT).astype(int) - orange).max() <= 4


def test_16_bits_are_scaled(tmp_path: Path) -> None:
    ramp = np.arange(0, 65536, 105, dtype=np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(np.tile(ramp, (8, 1))).save(tmp_path / f"grey.{suffix}")
        rgb = decode_rgb(tmp_path / f"grey.{suffix}", max_pixels=LIMIT)
        np.testing.assert_array_equal(rgb[3], np.rint(ramp / 257)[:, None].repeat(3, axis=1))
    values = np.tile(np.linspace(0, 65535, 64).astype(">u2")[None, :, None], (4, 1, 3))
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 64, 4, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(png(header, chunk(b"IDAT", zlib.compress(rows))))
    rgb = decode_rgb(tmp_path / "a.png", max_pixels=LIMIT)
    assert np.abs(rgb - values.astype(float) / 257).max() <= 1


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 3, 4), np.uint8)
    rgba[:, 1], rgba[:, 2] = (200, 0, 0, 255), (0, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")
    palette = Image.fromarray(np.array([[0, 1]] * 4, np.uint8), "P")
    palette.putpalette([9, 9, 9, 10, 200, 30])
    palette.save(tmp_path / "p.png", transparency=0)
    expected = {
        "rgba.png": [[255, 255, 255], [200, 0, 0], [127, 127, 127]],
        "la.png": [[255, 255, 255], [0, 0, 0], [127, 127, 127]],
        "p.png": [[255, 255, 255], [10, 200, 30]],
    }
    for name, row in expected.items():
        np.testing.assert_array_equal(decode_rgb(tmp_path / name, max_pixels=LIMIT)[0], row)


def test_palette_and_one_bit_images(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]] * 2, np.uint8), "P")
    palette.putpalette([1, 2, 3, 250, 251, 252])
    bits = Image.fromarray(np.array([[False, True]] * 2))
    for stored, row in ((palette, [[1, 2, 3], [250, 251, 252]]), (bits, [[0] * 3, [255] * 3])):
        for suffix in ("png", "gif", "bmp"):
            stored.save(tmp_path / f"a.{suffix}")
            assert decode_rgb(tmp_path / f"a.{suffix}", max_pixels=LIMIT)[0].tolist() == row


# Where the stored image must come from so that its orientation tag turns it upright (EXIF 2.3, table 6).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str, image: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](image)))
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    rgb = decode_rgb(tmp_path / f"a.{suffix}", max_pixels=LIMIT)
    assert rgb.shape == image.shape
    assert np.abs(rgb.astype(int) - image).mean() < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_image(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff rubbish")
    assert decode_rgb(tmp_path / "a.jpg", max_pixels=LIMIT).shape == image.shape


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    rgb = decode_rgb(tmp_path / f"a.{suffix}", max_pixels=LIMIT)
    assert rgb.shape == (12, 16, 3)
    assert np.abs(rgb.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(
    ("name", "options", "kind", "lossy"),
    [
        ("a.jpg", {"quality": 83}, "JPEG", True),
        ("a.png", {}, "PNG", False),
        ("a.webp", {"quality": 80}, "WEBP", True),
        ("b.webp", {"lossless": True}, "WEBP", False),
        ("c.webp", {"quality": 80, "exif": Image.Exif().tobytes()}, "WEBP", True),
        ("a.tif", {"compression": "jpeg"}, "TIFF", True),
        ("b.tif", {"compression": "tiff_lzw"}, "TIFF", False),
        ("a.bmp", {}, "BMP", False),
        ("a.gif", {}, "GIF", False),
    ],
)
def test_info_is_what_the_header_says(tmp_path, name, options, kind, lossy, image):
    path = tmp_path / name
    Image.fromarray(image).save(path, **options)
    rgb, info = decode_with_info(path, max_pixels=LIMIT)
    assert probe(path, max_pixels=LIMIT) == info
    assert (info.width, info.height, info.format, info.is_lossy) == (60, 40, kind, lossy)
    assert info.file_bytes == path.stat().st_size
    assert info.jpeg_quality == (83 if kind == "JPEG" else -1)
    assert (rgb.dtype, rgb.shape, rgb.flags.writeable) == (np.uint8, (40, 60, 3), True)


def test_jpeg_quality_is_exact_for_libjpeg_tables(tmp_path: Path) -> None:
    for quality in range(1, 101):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", quality=quality)
        assert probe(tmp_path / "a.jpg", max_pixels=LIMIT).jpeg_quality == quality


def test_the_name_does_not_choose_the_parser(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.jpg", format="PNG")
    assert probe(tmp_path / "a.jpg", max_pixels=LIMIT).format == "PNG"
    Image.fromarray(image).save(tmp_path / "b.png", format="PPM")
    assert rejection(tmp_path / "b.png").reason == Reason.NOT_AN_IMAGE


@pytest.mark.filterwarnings("ignore::Warning")
def test_random_damage_is_an_image_or_a_reason(tmp_path: Path, image: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for suffix in ("jpg", "png", "webp", "bmp", "tif", "gif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(image).save(path)
        sound = path.read_bytes()
        for _ in range(60):
            data = np.frombuffer(sound, np.uint8).copy()
            data[rng.integers(0, min(len(data), 400), size=5)] = rng.integers(0, 256, size=5)
            path.write_bytes(data.tobytes())
            with suppress(ImageRejected):  # any other error fails the test
                assert decode_rgb(path, max_pixels=LIMIT).shape[2] == 3


def test_rejections_survive_pickling() -> None:
    back = pickle.loads(pickle.dumps(ImageRejected(Reason.TOO_SMALL, "8x8", "a.jpg")))  # noqa: S301
    assert (back.reason, back.detail, str(back)) == (Reason.TOO_SMALL, "8x8", "a.jpg: too_small: 8x8")
