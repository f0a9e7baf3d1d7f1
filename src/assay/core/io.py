"""Files written whole or not at all (JSON, CSV, parquet, npy), hashes, and names that stay inside a folder.

Every writer creates parent folders, writes beside the target and renames, so that a reader never sees half a
file. The same data give the same bytes.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Bytes; a disk with less room than that is full.
BLOCK = 4096


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with the same suffix; rename it when the block succeeds.

    The block must create the file (not a folder) and close it. If the block raises, the temporary file is
    removed and `path` stays as it was. A link is replaced, not followed: what it leads to is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of our own rather than mkstemp: its file would keep mode 0600 after the rename.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        # NumPy, torch and safetensors have words of their own for a write that failed, not all with the reason.
        full = os.strerror(errno.ENOSPC)
        if full in str(error) or shutil.disk_usage(path.parent).free < BLOCK:
            raise OSError(errno.ENOSPC, full, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as UTF-8 JSON: keys sorted, indent 2, a newline at the end, floats at full precision.

    NumPy scalars become Python numbers. Raises ValueError, naming the key path, for a NaN or infinite number
    (JSON has neither), a key that is not text, and a value that JSON cannot hold.
    """
    text = json.dumps(_plain(obj, ""), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(obj: Any, key: str) -> Any:
    """`obj` in dicts, lists, text, bools, ints and finite floats; `key` is its place, for messages."""
    place = key or "top level"
    if isinstance(obj, dict):
        for name in obj:
            if not isinstance(name, str):
                raise ValueError(f"{place}: key {name!r} is not text; write str(key)")
        return {name: _plain(value, f"{key}.{name}" if key else name) for name, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value, f"{key}[{index}]") for index, value in enumerate(obj)]
    if isinstance(obj, float) and not math.isfinite(obj):
        raise ValueError(f"{place}: got {obj}, which JSON cannot hold; write null or leave the key out")
    if obj is None or isinstance(obj, str | bool | int | float):
        return obj

    import numpy as np

    if isinstance(obj, np.bool_ | np.number):
        return _plain(obj.item(), key)
    kind = type(obj).__name__
    raise ValueError(f"{place}: got a {kind}, which JSON cannot hold; convert it first")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises ValueError, naming the file, if it is not UTF-8 JSON or holds a NaN."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); write it again") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes: 64 lower-case hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`: 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write the columns of `frame`, without its index, as UTF-8 CSV; every line ends in a line feed alone."""
    text = frame.to_csv(index=False, lineterminator="\n")
    if "\r" in text:
        # pandas quotes a line feed in a field, but not a carriage return, which readers take for the end of a line too.
        text = frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_parquet(path: str | Path, frame: pd.DataFrame) -> None:
    """Write the columns of `frame`, without its index, as parquet; column types are kept."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The metadata pandas adds names the library versions at hand; the data need none of it.
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write `array` as .npy in C order. Raises ValueError for objects, which only pickle could hold."""
    import numpy as np

    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise ValueError(f"{Path(path).name}: dtype {array.dtype} holds objects; convert it to numbers")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_npy(path: str | Path, mmap: bool = False) -> np.ndarray:
    """Read one .npy array; with `mmap` it stays on disk, read-only. Nothing is ever unpickled.

    Raises ValueError, naming the file, for anything but an .npy file of plain values.
    """
    import numpy as np

    path = Path(path)
    try:
        if mmap:
            return np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path}: not an .npy file of plain values ({error}); write it again") from error


def inside(root: str | Path, name: str) -> Path:
    """Join a name from an untrusted source to `root`.

    Returns `root / name`, which need not exist. Raises ValueError if `name` is empty, absolute, has a
    NUL or a ".." part, or leads out of `root` through a symbolic link.
    """
    root = Path(root)
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not posix.parts or "\0" in name:
        raise ValueError(f"name {name!r}: must be a file name without NUL; give a path relative to {root}")
    if posix.is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"name {name!r}: must be relative and without '..'; give a path relative to {root}")
    joined = root / name
    # pathlib's own word for a loop of links differs between Python's versions.
    if _is_loop(joined):
        raise ValueError(f"name {name!r}: its links form a loop; remove them from {root}")
    if not joined.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"name {name!r}: a link leads out of {root}; replace it by the file itself")
    return joined


def _is_loop(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False
