"""Labelled images from anywhere, in one table.

A source is a folder per class, a CSV/parquet manifest, or the output of ``forge``. Each becomes rows of the columns in
``COLUMNS``; what can't be used becomes a row of (file, dataset, reason, detail) instead of disappearing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.dvc_links import real_name
from assay.core.io import inside
from assay.data.roles import ROLES
from assay.data.tables import MISSING, READ_ERRORS, read_frame

# role: as the source declares it, or missing.
COLUMNS = ["image_path", "label", "dataset", "group", "generator", "role"]
REJECTED = ["file", "dataset", "reason", "detail"]
CLASSES = {"real": 0, "forged": 1}
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "real": 0, "forged": 1}


@dataclass(frozen=True)
class Listing:
    """Rows that may be decoded (`COLUMNS`), and files that were rejected before that (`REJECTED`)."""

    rows: pd.DataFrame
    rejected: pd.DataFrame


def read_manifest(folder: Path, role: str) -> pd.DataFrame:
    """The manifest of a role.

    Raises:
        ValueError: no such file, or columns missing.
    """
    path = folder / f"{role}_manifest.csv"
    if not path.is_file():
        raise ValueError(f"no manifest at {path}: run dvc repro prepare, or give the folder that holds it")
    frame = pd.read_csv(path, dtype={"sample_id": str, "group_id": str, "generator": str})
    lacking = {"image_path", "label", "sample_id", "group_id"} - set(frame.columns)
    if lacking:
        raise ValueError(f"{path} lacks column(s) {sorted(lacking)}")
    return frame


def sample_id(image_path: str) -> str:
    """A short stable name for a sample: 16 hex digits of the SHA-256 of its manifest path."""
    return hashlib.sha256(image_path.encode()).hexdigest()[:16]


def _listing(rows: list[tuple[object, ...]], rejected: list[tuple[str, ...]]) -> Listing:
    # The types do not depend on the rows: a source with none left must not turn the others' labels into objects.
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"label": "int64", "role": object})
    return drop_conflicts(Listing(frame, pd.DataFrame(rejected, columns=REJECTED, dtype=str)))


def list_folders(root: Path, *, dataset: str) -> Listing:
    """Images under ``root/real`` and ``root/forged``, at any depth; the path without its suffix is the group.

    Raises:
        ValueError: a class folder is missing or holds no image.
    """
    rows: list[tuple[object, ...]] = []
    rejected: list[tuple[str, ...]] = []
    for name, label in CLASSES.items():
        folder = root / name
        if not folder.is_dir():
            raise ValueError(
                f"source {dataset}: no folder {folder}; a folder source has one folder per class, real and forged"
            )
        # Links to folders are not followed; they stay in the list, so that decoding names them.
        files = sorted(
            path
            for path in folder.rglob("*")
            if (path.is_symlink() or not path.is_dir())
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not files:
            raise ValueError(f"source {dataset}: {folder} is empty; both classes need images")
        for path in files:
            try:
                inside(root, path.relative_to(root).as_posix())
            except ValueError as error:
                rejected.append((path.as_posix(), dataset, "outside", str(error)))
                continue
            # A forged image named like its original is forged from it: they must not be parted.
            group = f"{dataset}/{path.relative_to(folder).with_suffix('').as_posix()}"
            generator = "real" if label == 0 else dataset
            rows.append((path.as_posix(), label, dataset, group, generator, None))
    return _listing(rows, rejected)


def _check_row(record: Mapping[Any, Any], root: Path) -> tuple[str, str] | Path:
    """Where the row's file lies, or why the row is rejected: (reason, detail)."""
    for column in ("path", "label"):
        if record[column] is None:
            return "missing_value", f"column {column} is empty"
    if str(record["label"]) not in LABELS:
        return "bad_label", f"label {record['label']!r}; allowed are 0 or real, 1 or forged"
    role = record.get("role")
    if role is not None and role not in ROLES:
        return "bad_role", f"role {role!r}; allowed are {', '.join(ROLES)}"
    try:
        return inside(root, str(record["path"]))
    except ValueError as error:
        return "outside", str(error)


def list_manifest(path: Path, *, dataset: str) -> Listing:
    """Rows of a manifest: columns path and label, optionally group, generator and role (or split).

    Paths are relative to the manifest's folder and must stay inside it. A row with an empty path or label, a label
    that is neither 0/real nor 1/forged, or a path that leads outside is rejected; so are all rows of a path that stands
    there with two labels, and the second and later rows of a repeated one.

    Raises:
        ValueError: not a CSV or parquet file that can be read, or a column is missing or there under both its names.
    """
    if not path.is_file():
        raise ValueError(f"no manifest at {path}")
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"manifest {path}: suffix {path.suffix!r} is not known; use .csv or .parquet")
    try:
        table = read_frame(path, missing=MISSING)
    except READ_ERRORS as error:
        raise ValueError(f"manifest {path} can't be read: {error}") from error
    table = table.rename(columns={"image_path": "path", "split": "role", "group_id": "group"})
    if not table.columns.is_unique:
        twice = sorted(set(table.columns[table.columns.duplicated()]))
        raise ValueError(f"manifest {path} gives {twice} twice (path = image_path, role = split, group = group_id)")
    lacking = {"path", "label"} - set(table.columns)
    if lacking:
        raise ValueError(f"manifest {path} lacks column(s) {sorted(lacking)}; it has {list(table.columns)}")
    rows: list[tuple[object, ...]] = []
    rejected: list[tuple[str, ...]] = []
    for record in table.to_dict("records"):
        checked = _check_row(record, path.parent)
        if isinstance(checked, tuple):
            rejected.append((str(record["path"]), dataset, *checked))
            continue
        image_path, label = checked.as_posix(), LABELS[str(record["label"])]
        group, generator, role = (record.get(name) for name in ("group", "generator", "role"))
        group = image_path if group is None else f"{dataset}/{group}"
        if generator is None:
            generator = "real" if label == 0 else dataset
        rows.append((image_path, label, dataset, group, str(generator), role))
    return _listing(rows, rejected)


def drop_conflicts(listing: Listing) -> Listing:
    """Reject every row of a file with two labels, and repeated rows of a file after its first.

    A file is known by its real path: absolute, relative and linked names of it are one, but for links of DVC's.
    """
    rows = listing.rows
    files = rows["image_path"].map(real_name)
    conflicting = rows.groupby(files)["label"].transform("nunique") > 1
    repeated = files.duplicated() & ~conflicting
    parts = [listing.rejected]
    for mask, reason, detail in (
        (conflicting, "two_labels", "the path stands in the data with both labels"),
        (repeated, "repeated", "the path stands in the data already"),
    ):
        part = rows.loc[mask, ["image_path", "dataset"]].rename(columns={"image_path": "file"})
        parts.append(part.assign(reason=reason, detail=detail))
    return Listing(rows[~conflicting & ~repeated].reset_index(drop=True), pd.concat(parts, ignore_index=True))


def list_path(path: Path, *, dataset: str) -> Listing:
    """A folder with a folder per class, or a manifest file."""
    return list_folders(path, dataset=dataset) if path.is_dir() else list_manifest(path, dataset=dataset)


def combine(listings: list[Listing]) -> Listing:
    """Several sources as one data set; the same file in two sources counts once, or is rejected if labels differ."""
    rows = pd.concat([item.rows for item in listings], ignore_index=True)
    rejected = pd.concat([item.rejected for item in listings], ignore_index=True)
    return drop_conflicts(Listing(rows, rejected))
