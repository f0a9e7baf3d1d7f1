"""What the tests of fetching share."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assay.core.io import sha256_file
from assay.data.fetch.registry import Pin


@pytest.fixture
def no_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings of pip, proxies and certificates on this machine are, the test sees none."""
    strange = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in [name for name in os.environ if name.startswith("PIP_") or name.upper() in strange]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="session")
def tar_gz() -> Callable[[dict[str, bytes]], bytes]:
    """Makes the bytes of a .tar.gz archive from names and contents."""

    def make(members: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def make_wheel() -> Callable[[Path, Mapping[str, bytes | str]], str]:
    """Writes a wheel with these members, and code that must never run; returns its sha256."""

    def make(path: Path, members: Mapping[str, bytes | str]) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{path.name.split('-')[0]}/__init__.py", "raise SystemExit('a package must never be run')")
            for name, content in members.items():
                wheel.writestr(name, content)
        return sha256_file(path)

    return make


@pytest.fixture(scope="session")
def tiny_sdist(tar_gz: Callable[[dict[str, bytes]], bytes]) -> Callable[[Path], Pin]:
    """Writes an sdist whose build code, wherever it is run, leaves a file ``ran`` beside the sdist."""

    def write(path: Path) -> Pin:
        texts = {
            "setup.py": f"open({str(path.parent / 'ran')!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n",
            "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'setup'\nbackend-path = ['.']\n",
            "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Python: >=9\n",
            "tiny_data/words.txt": "good and bad",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar_gz({f"tiny-data-1.0/{name}": text.encode() for name, text in texts.items()}))
        return Pin("tiny-data", "1.0", sha256_file(path), path.name)

    return write
