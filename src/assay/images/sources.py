"""Labelled images from anywhere, in one table.

A source is a tree of folders, a manifest, or the output of ``forge``. Each becomes rows of the columns in ``COLUMNS``;
what can't be used becomes a row of (file, dataset, reason, detail) instead of disappearing.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from assay.core.io import inside
from assay.data.encodings import MAX_BYTES
from assay.data.path_text import escape_path, plain_text
from assay.data.roles import role_named
from assay.data.tables import READ_ERRORS, UNREADABLE, read_frame, text_cells
from assay.images import frame_lists
from assay.images.class_names import LABELS, Place, class_words, names_of, place_of
from assay.images.groups import group_names, warn_if_bundled
from assay.images.listing import SHOWN, Listing, combine, is_hidden, is_picture, make_listing
from assay.images.manifest_rows import check_row, group_word
from assay.params.images import External, Labelled, Prepare, Source

# What the stage forge writes.
FORGED = Path("data/forged/manifest.csv")
# What it cut besides, for evaluate.external; without rows where no generated picture was fetched.
GENERATED = Path("data/generated/manifest.csv")
# Folders that hold the forms of a video, and name no generator.
CONTAINERS = {"frames", "videos", "images", "faces", "crops", "raw", "c0", "c23", "c40"}
# The columns of a manifest that are read.
COLUMNS_READ = ("path", "label", "group", "generator", "role", UNREADABLE)


def list_folders(root: Path, *, dataset: str, how: Labelled, field: str) -> Listing:
    """Images of a tree in which a folder at any depth names the class of what lies below it.

    The outermost folder above the class folder names the generator; without one the first folder below it does, if
    another folder, a video's, lies between that and the file. Folders named train, val or test declare a role.

    Args:
        root: the tree. Links to folders are not followed, and hidden files not used: both are rejected, of the hidden
            ones those that are pictures.
        dataset: the source's name.
        how: names of the classes, and the rule for groups.
        field: the list of parameters that names the source, for messages.
    """
    words = class_words(how.classes)
    rejected: list[tuple[str, ...]] = []
    kept: list[tuple[int, str, Place]] = []
    places: dict[str, Place] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()):
        name = path.relative_to(root).as_posix()
        if is_hidden(name) and not is_picture(path):
            continue
        folder = posixpath.dirname(name)
        if folder not in places:
            place = place_of(folder, words)
            places[folder] = place if _has_roles(how) else place._replace(roles=set())
        place = places[folder]
        reason = _check_file(name, place, root)
        if reason is None:
            kept.append((min(place.labels), name, place))
        else:
            rejected.append((escape_path(path.as_posix()), dataset, *reason))
    # Real images first, each class in the order of its names.
    kept.sort(key=lambda item: item[0])
    groups = _groups(
        [name for _, name, _ in kept],
        [place for *_, place in kept],
        how=how,
        field=f"{field}[].group (dataset {dataset})",
    )
    # A folder that real images have as well holds scenes, not what one generator made.
    scenes = {name for label, _, place in kept if label == 0 for name in _folders_below(place)[:1]}
    rows: list[tuple[object, ...]] = []
    for (label, name, place), group in zip(kept, groups, strict=True):
        generator = "real" if label == 0 else _generator(place, scenes) or dataset
        image_path = escape_path((root / name).as_posix())
        rows.append(
            (image_path, label, dataset, f"{dataset}/{group}", escape_path(generator), min(place.roles, default=None))
        )
    problem = _lacking_class(root, kept, rejected, words=words, told=(field, dataset))
    return make_listing(rows, rejected, problem)


def _has_roles(how: Labelled) -> bool:
    """Whether the roles that a set declares are looked at; in an external set all images have one part."""
    return not isinstance(how, External) and not (isinstance(how, Source) and how.roles == "drawn")


def _check_file(name: str, place: Place, root: Path) -> tuple[str, str] | None:
    """Why a file of a tree is rejected: (reason, detail), or None."""
    folder = posixpath.dirname(name) or "."
    if is_hidden(name):
        return "hidden", "a name with a dot in front hides it, or its folder: rename that, if the picture is to count"
    if os.path.isdir(root / name):
        return "linked_folder", (
            f"{escape_path(name)!r} is a link to a folder; links are not followed: put the folder there, or name its path"
        )
    if not place.labels:
        return "no_class", f"folder {escape_path(folder)!r} names no class"
    if len(place.labels) > 1:
        return "two_classes", f"folder {escape_path(folder)!r} names both classes"
    if len(place.roles) > 1:
        return "two_roles", f"folder {escape_path(folder)!r} names the roles {' and '.join(sorted(place.roles))}"
    try:
        inside(root, name)
    except ValueError as error:
        return "outside", plain_text(str(error))
    return None


def _folders_below(place: Place) -> list[str]:
    return [name for name in place.below if role_named(name) is None and name.casefold() not in CONTAINERS]


def _generator(place: Place, scenes: set[str]) -> str | None:
    above = [name for name in place.above if role_named(name) is None]
    if above:
        return above[0]
    below = _folders_below(place)
    # The last folder holds the frames of a video, or files of any kind.
    return below[0] if len(below) > 1 and below[0] not in scenes else None


def _lacking_class(
    root: Path,
    kept: list[tuple[int, str, Place]],
    rejected: list[tuple[str, ...]],
    *,
    words: Mapping[str, int],
    told: tuple[str, str],
) -> str | None:
    """The message for a tree that lacks a class, or None."""
    lacking = [name for name, label in LABELS.items() if label not in {label for label, *_ in kept}]
    if not lacking:
        return None
    names = [(root / name).as_posix() for _, name, _ in kept] + [file for file, *_ in rejected]
    found = Counter(PurePosixPath(os.path.relpath(name, root)).parent.as_posix() for name in names)
    shown = ", ".join(f"{escape_path(name)} ({count})" for name, count in found.most_common(SHOWN))
    allowed = "; ".join(f"{name}: {names_of(words, LABELS[name])}" for name in lacking)
    links = "".join(f". {detail}" for _, _, reason, detail in rejected if reason == "linked_folder")
    return (
        f"source {told[1]}: no {' and no '.join(lacking)} image in {root}, since no folder that holds files is named so "
        f"({allowed}). Folders with files: {shown or 'none'}{links}. Name yours in {told[0]}, dataset {told[1]}: classes: "
        "{real: [...], forged: [...]}"
    )


def _groups(names: list[str], places: list[Place], *, how: Labelled, field: str) -> list[str]:
    """The groups of a source's files, by the user's rule or by file, with a warning where that looks wrong.

    ``field`` is the parameter that holds the rule.
    """
    files = [posixpath.basename(name) for name in names]
    told = [escape_path(name) for name in names]
    below = [escape_path("/".join((*place.below, file))) for place, file in zip(places, files, strict=True)]
    if how.group is None:
        warn_if_bundled(below, field=field)
    above = [escape_path("/".join(place.above)) for place in places]
    plain = [posixpath.join(*ends) for ends in zip(above, below, strict=True)]
    return group_names(told, plain, rule=how.group or "file", field=field)


def _read_manifest(path: Path, *, max_bytes: int) -> tuple[pd.DataFrame, bool]:
    """A manifest as a table with the columns path and label, and whether it lists videos' frames."""
    try:
        frames = frame_lists.read_frame_list(path, max_bytes=max_bytes) if path.suffix.lower() == ".json" else None
        table = read_frame(path, max_bytes=max_bytes) if frames is None else frames
    except READ_ERRORS as error:
        raise ValueError(f"manifest {path} can't be read: {error}") from error
    table = table.rename(columns={"image_path": "path", "split": "role", "group_id": "group"})
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise ValueError(f"manifest {path} gives {twice} twice (path = image_path, role = split, group = group_id)")
    lacking = {"path", "label"} - set(table.columns)
    if lacking:
        raise ValueError(f"manifest {path} lacks column(s) {sorted(lacking)}; it has {list(table.columns)}")
    return table, frames is not None


def list_manifest(path: Path, *, dataset: str, how: Labelled, field: str, max_bytes: int = MAX_BYTES) -> Listing:
    """Rows of a manifest: columns path and label, optionally group, generator and role (or split); or a frame list.

    Paths are relative to the manifest's folder and must stay inside it. A row with an empty path or label, a label
    that names no class, or a path that leads outside is rejected; so are all rows of a path that stands there with two
    labels, and the second and later rows of a repeated one. Rows without a group get one by ``how.group``.

    Raises:
        ValueError: not a table that can be read (`read_frame`), or a column is missing or there under both its names.
    """
    if not path.is_file():
        raise ValueError(f"no manifest at {path}")
    table, lists_frames = _read_manifest(path, max_bytes=max_bytes)
    words = class_words(how.classes)
    if lists_frames:
        words = frame_lists.WORDS | words
        # Its groups are videos; a rule of the user goes before them.
        table = table if how.group is None else table.assign(group=None)
    rejected: list[tuple[str, ...]] = []
    kept: list[tuple[dict[Any, Any], str, int]] = []
    read = [name for name in COLUMNS_READ if name in table and (name != "role" or _has_roles(how))]
    texts = text_cells(table[read])
    for number, (given, cells) in enumerate(zip(table["path"], texts.to_dict("records"), strict=True), start=1):
        # A cell of spaces is an empty one; a table of texts has NaN for None.
        record = {name: cell if isinstance(cell, str) and cell.strip() else None for name, cell in cells.items()}
        checked = check_row(record, number, path.parent, words)
        if isinstance(checked[0], Path):
            kept.append((record, escape_path(checked[0].as_posix()), int(checked[1])))
        else:
            # A whole picture may stand where its path is to be.
            name = given if isinstance(given, str) else str(given)[:120]
            rejected.append((plain_text(name), dataset, checked[0], plain_text(str(checked[1]))))
    free = [record["path"] for record, *_ in kept if record.get("group") is None]
    given = iter(
        _groups(
            free,
            [place_of(posixpath.dirname(name), words) for name in free],
            how=how,
            field=f"{field}[].group (dataset {dataset})",
        )
    )
    rows: list[tuple[object, ...]] = []
    for record, image_path, label in kept:
        group, generator, role = (record.get(name) for name in ("group", "generator", "role"))
        if group is None:
            group = next(given)
            # Where no rule says otherwise, a row stands alone.
            group = f"{dataset}/{group}" if how.group is not None else image_path
        else:
            group = f"{dataset}/{group_word(group)}"
        if generator is None:
            generator = "real" if label == 0 else dataset
        rows.append((image_path, label, dataset, group, generator.strip(), None if role is None else role_named(role)))
    return make_listing(rows, rejected)


def list_path(path: Path, *, dataset: str, how: Labelled, field: str, max_bytes: int = MAX_BYTES) -> Listing:
    """A folder with folders of classes, or a manifest file of at most ``max_bytes``."""
    if not path.exists() and not path.suffix:
        raise ValueError(f"source {dataset}: no folder {path}")
    listed = list_folders if path.is_dir() else partial(list_manifest, max_bytes=max_bytes)
    return listed(path, dataset=dataset, how=how, field=field)


def list_sources(settings: Prepare, *, root: Path = Path(), max_bytes: int = MAX_BYTES) -> Listing:
    """All sources of ``prepare`` as one listing; ``root``: of the project; ``max_bytes``: of a manifest.

    Raises:
        ValueError: a source is not there or can't be read, or forge made nothing.
    """
    listings = []
    for source in settings.sources:
        path = root / (FORGED if source.kind == "forge" else Path(str(source.path)))
        listing = list_path(path, dataset=source.dataset, how=source, field="prepare.sources", max_bytes=max_bytes)
        if source.kind == "forge" and listing.rows.empty:
            raise ValueError(
                f"prepare.sources asks for dataset {source.dataset} of kind forge, but forge made nothing: set "
                "fetch_photos.source to packages or a folder, or remove that source"
            )
        listings.append(listing)
    return combine(listings)


def forged_folds(settings: Prepare) -> dict[str, int]:
    """The fold of every group of the train role to which forge gave one; empty without a source of kind forge.

    Keys are groups as `list_sources` names them.
    """
    folds: dict[str, int] = {}
    for source in settings.sources:
        if source.kind == "forge":
            table = pd.read_csv(FORGED, dtype={"group": str}, na_values={"fold": [""]}, keep_default_na=False)
            given = table.dropna(subset="fold").drop_duplicates("group")
            names = source.dataset + "/" + given["group"].map(group_word)
            folds |= dict(zip(names, given["fold"].astype(int), strict=True))
    return folds
