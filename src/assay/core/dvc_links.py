"""Links that DVC made: with ``cache.type symlink`` every cached file in the workspace is a link into DVC's cache."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

# A file of the cache; without the folders as DVC 2 laid it.
OBJECT = re.compile(r"(files/md5/)?[0-9a-f]{2}/[0-9a-f]{30}")


def is_dvc_link(path: str | Path) -> bool:
    """Whether ``path`` is a link to one file of the project's DVC cache, wherever that lies.

    The project is DVC_ROOT, or the current folder. Such a link can lead to nothing that DVC does not keep for the project,
    and to a file alone: names in the cache are hashes of the content.

    Raises:
        ValueError: DVC's configuration can't be read.
    """
    if not os.path.islink(path):
        return False
    folder = _cache_folder(Path(os.environ.get("DVC_ROOT", ".")).resolve())
    target = Path(os.path.realpath(path))
    if folder is None or not target.is_relative_to(folder):
        return False
    return OBJECT.fullmatch(target.relative_to(folder).as_posix()) is not None


def real_name(path: str | Path) -> str:
    """The real path of a file; a link of DVC's counts as the file itself, since equal files share one in the cache."""
    if not is_dvc_link(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


@cache
def _cache_folder(root: Path) -> Path | None:
    """Where DVC keeps the files of the project at ``root``; None where there is no DVC."""
    if not (root / ".dvc").is_dir():
        return None
    # DVC reads its settings itself: they stand in the project, in the user's and in the machine's folders.
    from dvc.config import Config, ConfigError

    try:
        given = Config(str(root / ".dvc"))["cache"].get("dir")
    except ConfigError as error:
        raise ValueError(f"DVC's configuration of {root} can't be read: {error}") from error
    return Path(given or root / ".dvc/cache").resolve()
