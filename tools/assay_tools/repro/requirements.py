"""What stages need of the machine beyond the environment: said before anything runs, and the rest runs without them."""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Mapping
from ctypes.util import find_library
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from assay.closure import LOCK, OUTPUT, locked_versions
from assay.core.io import read_json
from assay.core.params import PARAMS_FILE, read_yaml
from assay_tools.repro.graph import Stage
from assay_tools.workspace import locked_stages, size_text

RENDERING = "render_corridors"
# What miniworld loads to draw without a screen: the library's name, and Debian's package.
LIBRARIES = {"EGL": "libegl1", "GL": "libgl1", "GLU": "libglu1-mesa", "freetype": "libfreetype6"}
# Of the outputs' weight, and bytes on each disk, for what dvc.lock does not know: other rows, logs, downloads.
MARGIN, ROOM = 0.1, 2**28
# A training's checkpoint holds weights and the two moments of its optimizer.
CHECKPOINT = 3


def missing_libraries() -> list[str]:
    """Debian's packages whose libraries this machine lacks."""
    return [package for name, package in LIBRARIES.items() if find_library(name) is None]


def cannot_run(stages: Mapping[str, Stage], waiting: set[str], root: Path) -> dict[str, str]:
    """Stages among those ``waiting`` that can't run on this machine: name -> what is missing, and the command that helps."""
    if RENDERING not in waiting:
        return {}
    source = read_yaml(root / PARAMS_FILE).get(RENDERING, {}).get("source")
    missing = missing_libraries() if source == "render" else []
    if not missing:
        return {}
    return {RENDERING: f"OpenGL without a screen is missing ({', '.join(missing)}): make system, as root, installs it"}


def _installed(name: str) -> str | None:
    try:
        return Version(metadata.version(name)).public
    except metadata.PackageNotFoundError:
        return None


def wrong_packages(root: Path, codes: Iterable[str]) -> tuple[list[str], list[str]]:
    """Packages that are missing or of another version than requirements.lock pins, as lines ``name installed (pinned)``.

    Args:
        root: the project.
        codes: files of ``code/`` of the stages that will run.

    Returns:
        Those that decide what these stages compute, so that they refuse to run; and all others, missing ones only if
        pyproject.toml asks for them.
    """
    if not (root / LOCK).is_file():
        return [], []
    pins, pyproject = locked_versions(root / LOCK), root / "pyproject.toml"
    asked = (
        tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"] if pyproject.is_file() else []
    )
    wanted = {canonicalize_name(Requirement(line).name) for line in asked}
    files = {root / code for code in codes if code}
    decisive = {name for path in files if path.is_file() for name in read_json(path)["packages"]}
    refusing: list[str] = []
    other: list[str] = []
    for name, pin in pins.items():
        found = _installed(name)
        if found != pin and (found is not None or name in wanted | decisive):
            (refusing if name in decisive else other).append(f"{name} {found or 'missing'} ({pin})")
    return refusing, other


def _device(path: Path) -> tuple[int, Path]:
    """The disk on which a path lies or will lie, and its nearest folder that exists."""
    while not path.exists():
        path = path.parent
    return path.stat().st_dev, path


class Cache(NamedTuple):
    """DVC's cache of a project: its folder, and whether the workspace gets copies of what lies there."""

    folder: Path
    copies: bool


def read_cache(root: Path) -> Cache:
    """The cache as DVC is set up; opening the project for it takes a second, so it is asked once."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        types = repo.config["cache"].get("type") or ["copy"]
        return Cache(Path(repo.cache.local_cache_dir), not {"hardlink", "symlink"} & set(types))


def lacking_space(root: Path, names: Collection[str], cache: Cache) -> tuple[list[str], list[str]]:
    """Disks with less room than the outputs of these stages weighed when they last ran, by dvc.lock.

    Returns:
        A line per disk that can't hold the outputs, and per disk that holds them with less than the margin to spare.
    """
    entries = locked_stages(root)
    outs = [out for name in names for out in entries.get(name, {}).get("outs", [])]
    weights = {out["path"]: int(out.get("size") or 0) for out in outs}
    absent = sum(size for path, size in weights.items() if not (root / path).exists())
    largest = max((size for path, size in weights.items() if path.startswith("models/")), default=0)
    needs = {
        "DVC's cache": (cache.folder, sum(weights.values())),
        "the workspace": (root, absent if cache.copies else 0),
        "checkpoints": (root / ".assay", CHECKPOINT * largest),
        "temporary files": (Path(tempfile.gettempdir()), 0),
    }
    disks: dict[int, list[tuple[str, Path, int]]] = {}
    for what, (place, size) in needs.items():
        device, folder = _device(place.absolute())
        disks.setdefault(device, []).append((what, folder, size))
    full, tight = [], []
    for parts in disks.values():
        free, need = shutil.disk_usage(parts[0][1]).free, sum(size for *_, size in parts)
        shown = ", ".join(f"{what} {size_text(size)}" for what, _, size in parts)
        line = f"{size_text(free)} free on the disk of {parts[0][1]}, where by dvc.lock this run takes {shown}"
        if free < need:
            full.append(f"{line}: make room (dvc gc -w), or bring fewer stages up to date at a time")
        elif free < need * (1 + MARGIN) + ROOM:
            tight.append(f"{line}: little is left for what else a run writes")
    return full, tight


def unwritable_cache(cache: Cache) -> list[str]:
    """One line if no stage's outputs could be kept."""
    _, folder = _device((cache.folder / "files/md5").absolute())
    if os.access(folder, os.W_OK | os.X_OK):
        return []
    return [
        f"DVC's cache {folder} can't be written, so that no stage's outputs could be kept: take another, and this one as "
        f"a remote to pull from: dvc cache dir --local .dvc/cache; dvc remote add --local shared '{cache.folder}'"
    ]


def check_machine(stages: Collection[Stage], root: Path) -> list[str]:
    """What may go wrong in a run of these stages on this machine; one line each.

    Raises:
        ValueError: what is sure to go wrong: packages, disk space, a cache that can't be written.
    """
    if not stages:
        return []
    refusing, other = wrong_packages(root, [stage.code for stage in stages])
    cache = read_cache(root)
    full, tight = lacking_space(root, [stage.name for stage in stages], cache)
    sure = [*_pinned_otherwise(refusing), *unwritable_cache(cache), *full]
    if sure:
        raise ValueError("this machine can't run it:\n" + "\n".join(sure))
    return tight + _differing(other)


def _pinned_otherwise(refusing: list[str]) -> list[str]:
    return [f"{LOCK} pins other packages than are installed: {', '.join(refusing)}: make setup"] if refusing else []


def _differing(other: list[str]) -> list[str]:
    if not other:
        return []
    shown = ", ".join(other[:5]) + (", ..." if len(other) > 5 else "")
    return [f"{len(other)} package(s) differ from {LOCK}, none of which decides a result: {shown}: make setup"]


def machine_warnings(root: Path = Path()) -> list[str]:
    """What a run of the whole pipeline would lack on this machine: packages, and room for outputs that are not here."""
    from dvc.exceptions import NotDvcRepoError

    try:
        cache = read_cache(root)
    except NotDvcRepoError:
        return []  # assay_tools.gates.problems reports it
    entries = locked_stages(root)
    absent = [
        name
        for name, entry in entries.items()
        if any(not (root / out["path"]).exists() for out in entry.get("outs", []))
    ]
    refusing, other = wrong_packages(root, [f"{OUTPUT}/{path.name}" for path in (root / OUTPUT).glob("*.json")])
    full, tight = lacking_space(root, absent, cache)
    return [*_pinned_otherwise(refusing), *full, *tight, *unwritable_cache(cache), *_differing(other)]
