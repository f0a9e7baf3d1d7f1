"""Own data and what carries it: git ignores ``data/own``, so it is in DVC or on this disk alone (docs/your-data.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.stage import OWN_DATA

if TYPE_CHECKING:
    from dvc.repo import Repo


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def entries(root: Path) -> Iterator[Path]:
    """Files and folders of the user's directly below the folders of ``data/own``."""
    for path in sorted((root / OWN_DATA).glob("*/*")):
        if not path.name.startswith((".", "README")) and path.suffix != ".dvc":
            yield path


def carried_by_nothing(repo: Repo, tracked: set[str]) -> list[str]:
    """One line per folder of ``data/own`` with entries that neither git, whose files are ``tracked``, nor DVC keeps."""
    root = Path(repo.root_dir)
    kept = {Path(out.fs_path) for stage in repo.index.stages for out in stage.outs}
    kept |= {root / parent for name in tracked for parent in (Path(name), *Path(name).parents)}
    found: dict[str, list[str]] = {}
    for path in entries(root):
        if path not in kept:
            found.setdefault(path.parent.relative_to(root).as_posix(), []).append(path.name)
    return [
        f"{folder}: {_shown(names)} on this disk alone: no clone has it, nor dvc push, nor an experiment of --temp or "
        f"--queue. To keep it: dvc add '{folder}/{names[0]}'; git add '{folder}/{names[0]}.dvc'"
        for folder, names in found.items()
    ]


def unseen_by_dvc(repo: Repo) -> list[str]:
    """One line per .dvc file of ``data/own`` that DVC does not see, since git ignores the folder in which it lies."""
    root = Path(repo.root_dir)
    seen = {Path(stage.path) for stage in repo.index.stages}
    hidden = [path for path in sorted((root / OWN_DATA).rglob("*.dvc")) if path.is_file() and path not in seen]
    return [
        f"{path.relative_to(root)}: DVC does not see it, since .gitignore leaves out its folder: dvc push skips the data, "
        "and dvc gc -w deletes them from the cache. Take the lines on /data/ of Assay's own .gitignore; a .dvc file "
        "stands directly below a folder of data/own"
        for path in hidden
    ]


def lay_out(repo: Repo, clone: Path) -> list[str]:
    """Bring into a clone the own data that its .dvc files name, as links into this project's cache.

    Returns:
        One line that names the data which the cache lacks.
    """
    from dvc.repo import Repo as DvcRepo

    settings = {"cache": {"dir": repo.cache.local_cache_dir, "type": ["symlink"]}}
    with DvcRepo(str(clone), config=settings) as copy:
        names = [stage.path for stage in copy.index.stages if stage.is_data_source]
        if not names:
            return []
        copy.checkout(targets=names, allow_missing=True, force=True)
        outs = [out for stage in copy.index.stages if stage.is_data_source for out in stage.outs]
        absent = sorted(Path(out.fs_path).relative_to(copy.root_dir).as_posix() for out in outs if not out.exists)
    return [f"DVC's cache lacks own data: {_shown(absent)}: dvc pull fetches them"] if absent else []
