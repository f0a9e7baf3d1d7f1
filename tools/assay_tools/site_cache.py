"""DVC's site cache: indexes of what lies where, pickled, that DVC keeps outside of the cache of data.

    python -m assay_tools.site_cache

By itself DVC 3.67 keeps it in a folder below /var/tmp that everyone may write to: another user of the machine can put an
index of their own there, and ``checkout``, ``pull`` and ``repro`` load it, which runs what they like. The command gives
the project a folder of its own, closed to others, and names it in .dvc/config.local. DVC takes the name as relative to
wherever it is run from, so it has to be absolute and can't stand in .dvc/config, which clones share.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

FOLDER = Path(".dvc/tmp/site")
FIX = "assay check --fix gives the project a closed one"


def site_cache(root: Path) -> Path:
    """Where DVC keeps its indexes for the project at ``root``.

    Raises:
        ValueError: DVC's configuration can't be read.
    """
    from dvc.config import Config, ConfigError
    from dvc.dirs import site_cache_dir

    try:
        given = Config(str(root / ".dvc"))["core"].get("site_cache_dir")
    except ConfigError as error:
        raise ValueError(f"DVC's configuration of {root} can't be read: {error}") from error
    return root / site_cache_dir(given)


def open_to_others(root: Path = Path()) -> list[str]:
    """One line if others could put files where DVC loads pickles from; none if that folder is this user's own and closed.

    A folder that is not there counts as open: DVC makes it so that everyone may write into it.
    """
    if not (root / ".dvc").is_dir():
        return []
    folder = site_cache(root)
    if not folder.is_dir():
        return [f"DVC's site cache {folder} is not there, and DVC makes it open to everyone: {FIX}"]
    if _is_open(folder):
        return [f"DVC's site cache {folder} is open to other users, whose pickled indexes DVC would load: {FIX}"]
    return []


def _is_open(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid != os.getuid() or bool(stat.S_IMODE(found.st_mode) & 0o077)


def close_site_cache(root: Path = Path()) -> Path:
    """Give the project a site cache of its own that is closed to others; its folder.

    Raises:
        ValueError: DVC's configuration can't be read, or DVC_SITE_CACHE_DIR names another folder.
    """
    from dvc.config import Config, ConfigError

    if (root / FOLDER).is_symlink():
        # What it leads to may hold other things, which are not ours to remove.
        (root / FOLDER).unlink()
    folder = (root / FOLDER).resolve()
    if folder.is_dir() and _is_open(folder):
        # Whatever others put there, DVC makes its indexes anew.
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with Config(str(root / ".dvc"), validate=False).edit("local") as settings:
            settings.setdefault("core", {})["site_cache_dir"] = str(folder)
    except ConfigError as error:
        raise ValueError(f"DVC's configuration of {root} can't be changed: {error}") from error
    if site_cache(root) != folder:
        raise ValueError(f"DVC_SITE_CACHE_DIR names {site_cache(root)}, and counts before {folder}: unset it")
    return folder


def main() -> None:
    """Close the site cache of the project in the current folder."""
    print(f"DVC's site cache: {close_site_cache()}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"site cache: {error}")
