"""Pins, and fetching wheels from a local package folder and npm's archives from a registry on this machine."""

import base64
import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from assay.core.io import sha256_file
from assay.data.fetch.registry import Pin, fetch

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
    with pytest.raises(RuntimeError, match=r"tiny-data==1\.0(.|\n)*another sha256(.|\n)*by hand"):
        fetch(replace(pin, sha256="0" * 64), cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_says_what_to_do_when_there_is_no_such_package(tmp_path: Path, index: Path) -> None:
    for filename in (ANYWHERE, SDIST):
        with pytest.raises(
            RuntimeError, match=r"no folder of find-links has the file(.|\n)*package index(.|\n)*by hand"
        ):
            fetch(Pin("tiny-data", "1.0", "0" * 64, filename), cache_dir=tmp_path)


@pytest.fixture
def npm_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tar_gz: Callable[[dict[str, bytes]], bytes], no_pip_settings: None
) -> Iterator[Pin]:
    """A package of a registry that npm can see, with scripts that leave a file ``ran``."""
    ran = f"touch {tmp_path / 'ran'}"
    scripts = dict.fromkeys(("prepare", "prepack", "preinstall", "install", "postinstall"), ran)
    facts = {"name": "@tiny/data", "version": "1.0.0"}
    data = tar_gz({"package/package.json": json.dumps(facts | {"scripts": scripts}).encode(), "package/a.jpg": b"a"})

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = f"http://127.0.0.1:{self.server.server_port}/data.tgz"  # type: ignore[attr-defined]
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
            version = facts | {"scripts": scripts, "dist": {"tarball": address, "integrity": integrity}}
            page = {"name": facts["name"], "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            body = data if self.path == "/data.tgz" else json.dumps(page).encode()
            self.send_response(200 if self.path in ("/data.tgz", "/@tiny%2fdata") else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {"registry": f"http://127.0.0.1:{server.server_port}/", "cache": str(tmp_path / "npm")}
        for name, value in (settings | {"fetch_retries": "0", "userconfig": str(tmp_path / "npmrc")}).items():
            monkeypatch.setenv(f"npm_config_{name}", value)
        yield Pin("@tiny/data", "1.0.0", hashlib.sha256(data).hexdigest(), "tiny-data-1.0.0.tgz")
        server.shutdown()
    assert not (tmp_path / "ran").exists()


def test_an_archive_of_npm_is_fetched_by_npm_and_nothing_in_it_runs(
    tmp_path: Path, npm_pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(RuntimeError, match=r"@tiny/data==1\.0\.0: npm gave (.|\n)*not the file pinned(.|\n)*by hand"):
        fetch(replace(npm_pin, sha256="0" * 64), cache_dir=cache)
    with pytest.raises(RuntimeError, match=r"npm says:(.|\n)*404"):
        fetch(Pin("absent", "1.0.0", "0" * 64, "absent-1.0.0.tgz"), cache_dir=cache)
    archive = fetch(npm_pin, cache_dir=cache)
    assert (sha256_file(archive), list(cache.iterdir())) == (npm_pin.sha256, [archive])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch(npm_pin, cache_dir=cache) == archive
    with pytest.raises(RuntimeError, match="install npm"):
        fetch(npm_pin, cache_dir=tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filename": "tiny-data-1.0.zip"}, r"only wheels \(\.whl\), sdists \(\.tar\.gz\) and npm's archives"),
        ({"filename": "tiny-data-1.1.tgz"}, "is not tiny-data==1.0"),
        ({"package": "@tiny/data", "filename": "data-1.0.tgz"}, "is not @tiny/data==1.0"),
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
        assert Pin("tiny-data", "1.0", "0" * 64, filename).filename == filename
