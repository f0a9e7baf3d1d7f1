"""Fetching from a local package folder, and archives made to do harm."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from assay.io import sha256_bytes, sha256_file
from assay.sources.registry import Pin, fetch, platform_options, unpack

ANYWHERE = "tiny_data-1.0-py3-none-any.whl"
ELSEWHERE = "tiny_data-1.0-cp39-cp39-win_amd64.whl"
SETUP = "raise SystemExit('a package must never be run')\n"


def tiny_wheel(folder: Path, filename: str) -> Pin:
    """Build a wheel without any tool and pin it; it claims to need a Python that does not exist."""
    with zipfile.ZipFile(folder / filename, "w") as wheel:
        wheel.writestr("tiny_data/__init__.py", SETUP)
        wheel.writestr("tiny_data/photo.txt", "not really a photo")
        head = "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Python: >=9\n"
        wheel.writestr("tiny_data-1.0.dist-info/METADATA", head)
        wheel.writestr("tiny_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("tiny_data-1.0.dist-info/RECORD", "")
    return Pin("tiny-data", "1.0", sha256_file(folder / filename), filename)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can see."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.mark.parametrize("filename", [ANYWHERE, ELSEWHERE])
def test_fetch_takes_the_pinned_wheel_on_any_system(tmp_path: Path, index: Path, filename: str) -> None:
    pin = tiny_wheel(index, filename)
    archive = fetch(pin, cache_dir=tmp_path / "cache")
    assert archive == tmp_path / "cache" / filename
    assert sha256_file(archive) == pin.sha256
    assert list(archive.parent.iterdir()) == [archive]


def test_fetch_uses_the_cache_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = tiny_wheel(tmp_path, ANYWHERE)
    forbid_pip(monkeypatch)
    assert fetch(pin, cache_dir=tmp_path) == tmp_path / ANYWHERE


def test_fetch_replaces_a_damaged_cached_file(tmp_path: Path, index: Path) -> None:
    pin = tiny_wheel(index, ANYWHERE)
    (tmp_path / ANYWHERE).write_bytes(b"damaged")
    assert sha256_file(fetch(pin, cache_dir=tmp_path)) == pin.sha256


def test_fetch_refuses_another_file_under_the_name(tmp_path: Path, index: Path) -> None:
    tiny_wheel(index, ANYWHERE)
    wrong = Pin("tiny-data", "1.0", "0" * 64, ANYWHERE)
    with pytest.raises(RuntimeError, match=r"tiny-data==1\.0(.|\n)*DO NOT MATCH THE HASHES(.|\n)*by hand"):
        fetch(wrong, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_says_what_to_do_when_there_is_no_such_package(tmp_path: Path, index: Path) -> None:
    pin = Pin("tiny-data", "1.0", "0" * 64, ANYWHERE)
    with pytest.raises(RuntimeError, match=r"No matching distribution(.|\n)*package index(.|\n)*by hand"):
        fetch(pin, cache_dir=tmp_path)


def test_fetch_checks_the_hash_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless_pip(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / ANYWHERE).write_bytes(b"other")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", careless_pip)
    with pytest.raises(RuntimeError, match=sha256_bytes(b"other")):
        fetch(Pin("tiny-data", "1.0", "0" * 64, ANYWHERE), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": "tiny-data-1.0.tar.gz"}, "only wheels"),
        ({"filename": "../tiny_data-1.0-py3-none-any.whl"}, "bare file name"),
        ({"filename": "tiny_data-1.1-py3-none-any.whl"}, "is not tiny-data==1.0"),
        ({"package": "tiny-data\n--extra"}, "is not tiny-data"),
        ({"sha256": "ABC"}, "64 lower-case hex"),
        ({"filename": "nonsense.whl"}, "wheel"),
    ],
)
def test_pin_refuses_what_does_not_fit(changes: dict[str, str], message: str) -> None:
    good = {"package": "tiny-data", "version": "1.0", "sha256": "0" * 64, "filename": ANYWHERE}
    with pytest.raises(ValueError, match=message):
        Pin(**(good | changes))


def test_platform_options_follow_the_file_name() -> None:
    name = "big-1.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
    options = ["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"]
    options += ["--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_28_x86_64"]
    assert platform_options(name) == options
    assert platform_options("big-1.0-py2.py3-none-any.whl") == []
    assert "3.8" in platform_options("big-1.0-cp38-abi3-win_amd64.whl")


def make_zip(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return path


def with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def unpack_all(archive: Path, destination: Path, **options: object) -> list[Path]:
    return unpack(archive, destination, **({"members": None, "max_bytes": 1 << 30, "max_files": 99} | options))


def test_unpack_takes_only_what_is_wanted(tmp_path: Path) -> None:
    members: list[tuple[str | zipfile.ZipInfo, bytes]] = [("d/", b""), ("d/a.txt", b"a"), ("b.txt", b"b")]
    archive = make_zip(tmp_path / "a.whl", members)
    out = tmp_path / "out"
    assert unpack_all(archive, out, members=["d/a.txt", "d/a.txt"]) == [out / "d" / "a.txt"]
    assert not (out / "b.txt").exists()
    assert [path.read_bytes() for path in unpack_all(archive, out)] == [b"a", b"b"]


def test_unpack_names_near_members(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.whl", [("data/photo_01.jpg", b"a")])
    with pytest.raises(ValueError, match=r"'data/photo_1\.jpg': not in the archive.*data/photo_01\.jpg"):
        unpack_all(archive, tmp_path / "out", members=["data/photo_1.jpg"])


HOSTILE: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
    "leads out": [("../evil.txt", b"")],
    "leads out of": [("a/../../evil.txt", b"")],
    "name leads out": [("/evil.txt", b"")],
    "the name leads": [("C:/evil.txt", b"")],
    "the name leads out": [("a\\..\\..\\evil.txt", b"")],
    "is a link": [(with_mode("link", stat.S_IFLNK | 0o777), b"/etc/passwd")],
    "or special file": [(with_mode("pipe", stat.S_IFIFO | 0o666), b"")],
    "stands in the archive twice": [("a.txt", b"1"), ("A.txt", b"2")],
    "folder is also a file": [("a", b"1"), ("a/b", b"2")],
    "a bomb": [("zeros", bytes(64 << 20))],
}


@pytest.mark.parametrize("message", HOSTILE)
def test_unpack_writes_nothing_of_a_hostile_archive(tmp_path: Path, message: str) -> None:
    archive = make_zip(tmp_path / "a.whl", [("good.txt", b"good"), *HOSTILE[message]])
    with pytest.raises(ValueError, match=message):
        unpack_all(archive, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unpack_refuses_exact_duplicates(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.whl", [("a.txt", b"1"), ("a.txt", b"2")])
    with pytest.raises(ValueError, match=r"'a\.txt': stands in the archive twice"):
        unpack_all(archive, tmp_path / "out")


def test_unpack_keeps_its_limits(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.whl", [("a.txt", b"12345"), ("b.txt", b"12345")])
    with pytest.raises(ValueError, match=r"'b\.txt': makes 10 bytes; max_bytes is 9"):
        unpack_all(archive, tmp_path / "out", max_bytes=9)
    with pytest.raises(ValueError, match="max_files 1: 2 members"):
        unpack_all(archive, tmp_path / "out", max_files=1)
    assert len(unpack_all(archive, tmp_path / "out", max_bytes=10, max_files=2)) == 2


@pytest.mark.parametrize("declared", [10, 5000])
def test_unpack_refuses_sizes_that_lie(tmp_path: Path, declared: int) -> None:
    """The true size is 1000: first less is declared than comes, then more."""
    archive = make_zip(tmp_path / "a.whl", [("a.txt", bytes(1000))])
    true, lie = (1000).to_bytes(4, "little"), declared.to_bytes(4, "little")
    assert archive.read_bytes().count(true) == 2  # local header and central directory
    archive.write_bytes(archive.read_bytes().replace(true, lie))
    with pytest.raises(ValueError, match=r"member 'a\.txt'"):
        unpack_all(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_unpack_refuses_damaged_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.txt", b"hello hello")
    (tmp_path / "a.whl").write_bytes(buffer.getvalue().replace(b"hello hello", b"hello jello"))
    with pytest.raises(ValueError, match=r"member 'a\.txt': damaged"):
        unpack_all(tmp_path / "a.whl", tmp_path / "out")
    (tmp_path / "b.whl").write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match=r"b\.whl: not a zip archive"):
        unpack_all(tmp_path / "b.whl", tmp_path / "out")


def test_unpack_does_not_follow_links_that_wait_in_the_destination(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.whl", [("d/a.txt", b"a")])
    (tmp_path / "out").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "away")
    with pytest.raises(ValueError, match="a link leads out"):
        unpack_all(archive, tmp_path / "out")
    assert list((tmp_path / "away").iterdir()) == []
