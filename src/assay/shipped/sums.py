"""SHA-256 of the files of a models folder, in the form of sha256sum: written where models are, checked before they are read.

``SHA256SUMS`` lies in the folder that ``--models`` names; ``sha256sum --check SHA256SUMS`` there says the same. It finds a
file that is damaged, missing, exchanged or put beside the others. Whoever may write all files of a folder may write this
one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from assay.core.io import atomic_path, inside, sha256_file

SUMS = "SHA256SUMS"
# Bytes; some thousand files.
MAX_SIZE = 2**20
LINE = re.compile(r"([0-9a-f]{64}) [ *]([^\\\n]{1,1000})")


def files_of(root: Path, patterns: Iterable[str]) -> Iterator[str]:
    """Names, relative to ``root``, of the files that match: ``*`` stays within a folder, hidden files are left out."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and not path.name.startswith(".") and path.name != SUMS:
                yield path.relative_to(root).as_posix()


def write_sums(root: Path, patterns: Iterable[str]) -> None:
    """Write `SUMS` into ``root`` for the files that match.

    Raises:
        ValueError: a pattern that matches no file.
    """
    lines: dict[str, str] = {}
    for pattern in patterns:
        found = list(files_of(root, [pattern]))
        if not found:
            raise ValueError(f"{root}: no file matches {pattern}, which {SUMS} should hold; run dvc repro")
        lines |= {name: f"{sha256_file(root / name)}  {name}\n" for name in found}
    with atomic_path(root / SUMS) as temporary:
        temporary.write_text("".join(lines[name] for name in sorted(lines)), encoding="utf-8", newline="\n")


def read_sums(root: Path) -> dict[str, str]:
    """Name -> SHA-256 of the files that `SUMS` lists.

    Raises:
        ValueError: no such file, or one of another form.
    """
    path = root / SUMS
    if not path.is_file():
        raise ValueError(f"no {path}, so that nothing says whether these models are whole")
    if path.stat().st_size > MAX_SIZE:
        raise ValueError(f"{path}: larger than {MAX_SIZE} bytes")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        parts = LINE.fullmatch(line)
        if parts is None:
            raise ValueError(f"{path}: line {number} is no SHA-256 and name: {line[:80]!r}")
        found[parts[2]] = parts[1]
    return found


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def check_sums(root: Path, patterns: Iterable[str]) -> None:
    """Compare the files that match with `SUMS`: each must be listed, there, and the same.

    Raises:
        ValueError: naming the first file that is not.
    """
    listed, patterns = read_sums(root), list(patterns)
    wanted = {name for name in listed if any(_matches(name, pattern) for pattern in patterns)}
    there = set(files_of(root, patterns))
    for name in sorted(wanted | there):
        shown = root / (name if len(name) <= 80 else f"{name[:80]}...")
        if name not in listed:
            raise ValueError(f"{shown} is not listed in {root / SUMS}: a file was added")
        if name not in there:
            raise ValueError(f"no {shown}, which {root / SUMS} lists")
        if sha256_file(inside(root, name)) != listed[name]:
            raise ValueError(f"{shown} is not the file that {root / SUMS} lists: it is damaged or was changed")
