"""What the first bytes of a file say, and which files of a folder are taken for pictures."""

import os
import struct
from pathlib import Path

import pytest
from PIL import Image

from assay.data.decode import FORMATS, ImageRejected, Reason, decode_rgb
from assay.data.picture_kinds import HEAD_BYTES, MODERN, RAW, SUFFIXES, kind_of, looks_like_a_picture


def ftyp(main: str, *others: str) -> bytes:
    brands = main.encode() + bytes(4) + "".join(others).encode()
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + b"\0\0\0\x08free"


@pytest.mark.parametrize("kind", [name for name in FORMATS if name not in MODERN] + ["AVIF"])
def test_the_first_bytes_tell_what_pillow_writes(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (20, 16)).save(path := tmp_path / "no-suffix", kind)
    assert kind_of(path.read_bytes()[:HEAD_BYTES]) == kind
    assert looks_like_a_picture(str(path))
    assert decode_rgb(path, max_pixels=400).shape == (16, 20, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (ftyp("heic", "mif1", "heic"), "HEIF"),
        (ftyp("mif1", "heic"), "HEIF"),
        (ftyp("mif1", "miaf", "avif"), "AVIF"),
        (ftyp("avis"), "AVIF"),
        (ftyp("crx "), RAW),
        (ftyp("qt  "), None),
        (ftyp("isom", "iso2", "mp41"), None),
        (b"\xff\x0a\x41", "JXL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (b"II*\0\x10\0\0\0CR\x02\0", RAW),
        (b"FUJIFILMCCD-RAW 0201", RAW),
        (b"IIRO\x08\0\0\0", RAW),
        (b"II*\0\x10\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"GIF of the day", None),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", None),
        (b"\xff\xfeB\0", None),
        (b"", None),
    ],
)
def test_kinds_that_pillow_does_not_write(tmp_path: Path, head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind
    (path := tmp_path / "a.jpg").write_bytes(head)
    with pytest.raises(ImageRejected) as caught:
        decode_rgb(path, max_pixels=400)
    wanted = dict.fromkeys(MODERN, Reason.TRUNCATED) | dict.fromkeys((None, "TIFF"), Reason.NOT_AN_IMAGE)
    assert caught.value.reason == wanted.get(kind, Reason.UNSUPPORTED_FORMAT)


@pytest.mark.parametrize("tags", [{50706: b"\x01\x04\0\0"}, {254: 1, 330: 8}], ids=["DNG", "NEF, ARW"])
def test_camera_data_in_tiff_give_no_preview(tmp_path: Path, tags: dict[int, object]) -> None:
    Image.new("RGB", (20, 16)).save(path := tmp_path / "a.tif", tiffinfo=tags)
    with pytest.raises(ImageRejected, match="unsupported_format: raw camera data"):
        decode_rgb(path, max_pixels=400)


def test_a_text_that_begins_like_a_bitmap_is_none() -> None:
    assert kind_of(b"BMW is a car, and this a text about it") is None


def test_which_files_of_a_folder_are_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "sound.png")
    sound = (tmp_path / "sound.png").read_bytes()
    taken = {"a.jpg": b"", "b.HEIC": b"", "c.Nef": b"", "d.JPG_large": sound, "e": sound, "f.txt": sound, ".g": sound}
    others = {"h.txt": b"notes", "i": b"", ".DS_Store": b"\0\0\0\x01Bud1", "._a.jpg": b"\0\x05\x16\x07", ".jpg": b""}
    for name, data in (taken | others).items():
        (tmp_path / name).write_bytes(data)
        assert looks_like_a_picture(str(tmp_path / name)) == (name in taken), name
    os.mkfifo(tmp_path / "pipe")
    assert not looks_like_a_picture(str(tmp_path / "pipe"))
    assert all(suffix == suffix.lower() for suffix in SUFFIXES)
