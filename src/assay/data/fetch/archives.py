"""Unpack fetched packages, wheels (zip) and sdists (.tar.gz), as plain archives: nothing in them is ever run.

Both kinds go through the same checks, on a list of plain entries, before the first byte is written. The extraction
of ``tarfile`` itself, which knows links, owners and modes, is never used.
"""

from __future__ import annotations

import difflib
import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from assay.core.io import atomic_path, inside

MAX_RATIO = 200
"""Largest unpacked / packed size of a zip member or a whole .tar.gz; JSON stays below 50, a bomb is near 1000."""

FREE_BYTES = 1 << 20
"""Up to this size (bytes) any ratio may be: a short run of zeros is no bomb."""

MAX_ENTRIES = 200_000
"""Most files and folders in an archive, wanted or not; empty ones cost a packed archive next to nothing."""

_CHUNK = 1 << 16
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, tarfile.TarError, gzip.BadGzipFile)


@dataclass(frozen=True)
class _Entry:
    """One file or folder: its `size` unpacked and `packed`, in bytes (None where it is not packed by itself)."""

    name: str
    size: int
    packed: int | None
    is_dir: bool
    open: Callable[[], IO[bytes] | None]


def unpack(
    archive: Path, destination: Path, *, members: Iterable[str] | None = None, max_bytes: int, max_files: int
) -> list[Path]:
    """Extract `members` (None: every file) of a wheel or sdist under `destination`; their paths, in that order.

    A name that ends in .tar.gz is read as an sdist, any other as a zip archive.

    Every name in the archive, and the size of every wanted member, is checked before the first byte is
    written: at most `max_files` files of `max_bytes` bytes in all. An sdist is also read to its end, its
    checksum included, while the bytes that come out are counted. While extracting, the bytes that come are
    counted against the size declared and the checksum.

    Raises ValueError, naming the member, for a hostile name, a link, a duplicate, a bomb, a size that lies, a
    damaged or encrypted member, and for a wanted member that is not there (with near names).
    """
    reader = _open_tar if Path(archive).name.endswith(".tar.gz") else _open_zip
    with reader(Path(archive)) as entries:
        files = _checked_files(entries)
        wanted = list(files) if members is None else _select(files, members)
        _check_sizes([files[name] for name in wanted], max_bytes=max_bytes, max_files=max_files)
        # In the order of the archive: to go back in a .tar.gz is to read it anew from its start.
        chosen = set(wanted)
        paths = {name: _extract(entry, Path(destination)) for name, entry in files.items() if name in chosen}
        return [paths[name] for name in wanted]


def _checked_files(entries: Iterable[_Entry]) -> dict[str, _Entry]:
    """The files by name, folders left out; ValueError for a name that a package has no use for."""
    files: dict[str, _Entry] = {}
    seen: dict[str, bool] = {}
    for entry in entries:
        _check_name(entry.name, is_dir=entry.is_dir)
        # Case-folded: on some systems "A" and "a" are one file, and the second would replace the first.
        key = entry.name.rstrip("/").casefold()
        if key in seen:
            raise ValueError(f"member {entry.name!r}: stands in the archive twice; fetch it again")
        if len(seen) == MAX_ENTRIES:
            raise ValueError(f"member {entry.name!r}: is one more than {MAX_ENTRIES}; do not use this archive")
        seen[key] = entry.is_dir
        if not entry.is_dir:
            files[entry.name] = entry
    for name in files:
        if not all(seen.get(str(parent), True) for parent in PurePosixPath(name.casefold()).parents):
            raise ValueError(f"member {name!r}: its folder is also a file of the archive; fetch it again")
    return files


def _check_name(name: str, *, is_dir: bool) -> None:
    """ValueError unless `name` is a plain relative path."""
    parts = (name.removesuffix("/") if is_dir else name).split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\0]|^[A-Za-z]:", name):
        raise ValueError(f"member {name!r}: the name leads out of the folder; do not use this archive")


def _select(files: dict[str, _Entry], members: Iterable[str]) -> list[str]:
    """The wanted names, in the order asked, each once; ValueError with near names if one is missing."""
    wanted = list(dict.fromkeys(members))
    for name in wanted:
        if name not in files:
            near = difflib.get_close_matches(name, files, n=3, cutoff=0.4) or sorted(files)[:3]
            raise ValueError(f"member {name!r}: not in the archive; near names: {', '.join(near) or 'none'}")
    return wanted


def _check_sizes(wanted: list[_Entry], *, max_bytes: int, max_files: int) -> None:
    """ValueError if the sizes declared break a limit or could only come from a bomb."""
    if len(wanted) > max_files:
        raise ValueError(f"max_files {max_files}: {len(wanted)} members wanted; ask for fewer or raise it")
    total = 0
    for entry in wanted:
        total += entry.size
        if total > max_bytes:
            raise ValueError(f"member {entry.name!r}: makes {total} bytes; max_bytes is {max_bytes}, raise it")
        if entry.packed is not None and entry.size > max(FREE_BYTES, MAX_RATIO * entry.packed):
            ratio = entry.size // max(1, entry.packed)
            raise ValueError(f"member {entry.name!r}: unpacks {ratio}-fold, a bomb; do not use this archive")


def _extract(entry: _Entry, destination: Path) -> Path:
    """Write one checked member; ValueError, with nothing written, if its bytes are not what was declared."""
    target = inside(destination, entry.name)
    written = 0
    with atomic_path(target) as temporary, temporary.open("wb") as sink:
        for chunk in _chunks(entry):
            written += len(chunk)
            if written > entry.size:
                break
            sink.write(chunk)
        if written != entry.size:
            raise ValueError(f"member {entry.name!r}: {entry.size} bytes declared, {written} came; fetch it again")
    return target


def _chunks(entry: _Entry) -> Iterator[bytes]:
    with _readable(f"member {entry.name!r}: damaged"):
        source = entry.open()
        assert source is not None, "a folder has no bytes"
        with source:
            while chunk := source.read(_CHUNK):
                yield chunk


class _BombError(ValueError):
    """More bytes than an honest archive could hold."""


@contextmanager
def _readable(fault: str) -> Iterator[None]:
    """Turn what the libraries raise over broken bytes into one ValueError that begins with `fault`."""
    try:
        yield
    except _BombError:
        raise
    # ValueError: tarfile lets some pass from numbers in a broken header. RecursionError: from a chain of headers.
    except (*_DAMAGE, ValueError, RecursionError) as error:
        raise ValueError(f"{fault} ({error}); fetch the archive again") from error


@contextmanager
def _open_zip(archive: Path) -> Iterator[Iterator[_Entry]]:
    with _readable(f"{archive.name}: not a zip archive"):
        bundle = zipfile.ZipFile(archive)
    with bundle:
        yield _zip_entries(bundle)


def _zip_entries(bundle: zipfile.ZipFile) -> Iterator[_Entry]:
    """The entries of a zip archive; ValueError for one that is neither plain file nor plain folder."""
    for info in bundle.infolist():
        name = info.orig_filename  # as stored: zipfile cuts `filename` at a NUL
        _check_name(name, is_dir=info.is_dir())
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
        if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
            raise ValueError(f"member {name!r}: is a link or special file; do not use this archive")
        if info.flag_bits & 0x1:
            raise ValueError(f"member {name!r}: is encrypted; do not use this archive")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"member {name!r}: compression {info.compress_type} is no wheel's; fetch it again")
        yield _Entry(info.filename, info.file_size, info.compress_size, info.is_dir(), partial(bundle.open, info))


class _Bounded(gzip.GzipFile):
    """A .gz file that refuses to unpack more bytes than an honest archive of its size would hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.title = path.name
        self.limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        # tarfile reads a header at one go, as long as it says it is, and takes a size below zero for "all".
        if size is None or not 0 <= size <= _CHUNK:
            raise _BombError(f"{self.title}: has a header of {size} bytes; do not use this archive")
        data = super().read(size)
        self._check(self.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset)
        return super().seek(offset, whence)

    def _check(self, position: int) -> None:
        if not 0 <= position <= self.limit:
            raise _BombError(f"{self.title}: unpacks to more than {self.limit} bytes, a bomb; do not use this archive")


@contextmanager
def _open_tar(archive: Path) -> Iterator[Iterator[_Entry]]:
    fault = f"{archive.name}: not a whole .tar.gz archive"
    with _Bounded(archive) as stream:
        with _readable(fault):
            bundle = tarfile.TarFile(fileobj=stream, mode="r")
        with bundle:
            yield _tar_entries(bundle, stream, fault=fault)


def _tar_entries(bundle: tarfile.TarFile, stream: _Bounded, *, fault: str) -> Iterator[_Entry]:
    """The entries of a tar archive; ValueError for one that is neither plain file nor folder, or a damaged end."""
    while True:
        with _readable(fault):
            info = bundle.next()
        if info is None:
            break
        plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) and not info.issparse()
        if not plain or info.size < 0:
            raise ValueError(f"member {info.name!r}: is a link or special file; do not use this archive")
        yield _Entry(info.name, info.size, None, info.isdir(), partial(bundle.extractfile, info))
    # tarfile ends its list at a broken header without a word; gzip checks its checksum at the end only.
    with _readable(fault):
        stream.seek(bundle.offset)
        while chunk := stream.read(_CHUNK):
            if chunk.strip(b"\0"):
                raise tarfile.ReadError(f"no header at byte {bundle.offset}")
