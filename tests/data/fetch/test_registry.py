"""Pins, and fetching wheels from a local package folder."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assay.core.io import sha256_bytes, sha256_file
from assay.data.fetch.registry import Pin, fetch, platform_options

ANYWHERE = "tiny_data-1.0-py3-none-any.whl"
ELSEWHERE = "tiny_data-1.0-cp39-cp39-win_amd64.whl"
SDIST = "tiny_data-1.0.tar.gz"


METADATA = {
    # A Python that does not exist.
    "METADATA": "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Python: >=9\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
    "RECORD": "",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pip_settings: None) -> Path:
    """A folder that is all pip can see."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture(params=[ANYWHERE, ELSEWHERE, SDIST])
def pin(
    request: pytest.FixtureRequest,
    index: Path,
    tiny_sdist: Callable[[Path], Pin],
    make_wheel: Callable[..., str],
) -> Pin:
    """A wheel for any system, one for another system, or an sdist that lies in the folder."""
    if request.param == SDIST:
        return tiny_sdist(index / SDIST)
    digest = make_wheel(index / request.param, {f"tiny_data-1.0.dist-info/{k}": v for k, v in METADATA.items()})
    return Pin("tiny-data", "1.0", digest, request.param)


def test_the_pinned_file_is_fetched_once(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a damaged one; when it is there, nothing is started."""
    archive = tmp_path / "cache" / pin.filename
    archive.parent.mkdir()
    archive.write_bytes(b"damaged")
    assert fetch(pin, cache_dir=archive.parent) == archive
    assert sha256_file(archive) == pin.sha256
    assert list(archive.parent.iterdir()) == [archive]
    monkeypatch.setattr(subprocess, "run", None)
    assert fetch(pin, cache_dir=archive.parent) == archive


def test_another_file_under_the_name_is_rejected(tmp_path: Path, pin: Pin) -> None:
    told = "another sha256" if pin.is_sdist else "DO NOT MATCH THE HASHES"
    with pytest.raises(RuntimeError, match=rf"tiny-data==1\.0(.|\n)*{told}(.|\n)*by hand"):
        fetch(replace(pin, sha256="0" * 64), cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_says_what_to_do_when_there_is_no_such_package(tmp_path: Path, index: Path) -> None:
    for filename, told in ((ANYWHERE, "No matching distribution"), (SDIST, "no folder of find-links has the file")):
        with pytest.raises(RuntimeError, match=rf"{told}(.|\n)*package index(.|\n)*by hand"):
            fetch(Pin("tiny-data", "1.0", "0" * 64, filename), cache_dir=tmp_path)


def test_the_hash_of_what_pip_brings_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"filename": "tiny-data-1.0.zip"}, r"only wheels \(\.whl\) and sdists \(\.tar\.gz\)"),
        ({"filename": "tiny_data-1.0.tar.bz2"}, "only wheels"),
        ({"filename": "../tiny_data-1.0-py3-none-any.whl"}, "bare file name"),
        ({"filename": "../tiny_data-1.0.tar.gz"}, "bare file name"),
        ({"filename": "tiny_data-1.1-py3-none-any.whl"}, "is not tiny-data==1.0"),
        ({"filename": "tiny_data-1.1.tar.gz"}, "is not tiny-data==1.0"),
        ({"filename": "tidy_data-1.0.tar.gz"}, "is not tiny-data==1.0"),
        ({"package": "tiny-data\n--extra"}, "is not tiny-data"),
        ({"sha256": "ABC"}, "64 lower-case hex"),
        ({"filename": "nonsense.whl"}, "wheel"),
        ({"filename": "nonsense.tar.gz"}, "sdist"),
    ],
)
def test_a_pin_that_does_not_fit_is_rejected(changes: dict[str, str], message: str) -> None:
    good = {"package": "tiny-data", "version": "1.0", "sha256": "0" * 64, "filename": ANYWHERE}
    with pytest.raises(ValueError, match=message):
        Pin(**(good | changes))


def test_pin_takes_an_sdist_under_old_and_new_names() -> None:
    for filename in ("tiny-data-1.0.tar.gz", "tiny_data-1.0.tar.gz", "Tiny.Data-1.tar.gz"):
        assert Pin("tiny-data", "1.0", "0" * 64, filename).is_sdist
    assert not Pin("tiny-data", "1.0", "0" * 64, ANYWHERE).is_sdist


def test_platform_options_follow_the_file_name() -> None:
    name = "big-1.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
    options = ["--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"]
    options += ["--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_28_x86_64"]
    assert platform_options(name) == options
    assert platform_options("big-1.0-py2.py3-none-any.whl") == []
    assert "3.8" in platform_options("big-1.0-cp38-abi3-win_amd64.whl")
