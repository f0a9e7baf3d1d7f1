"""A list of labelled images, whatever they come from, and of the files that are none.

Names that are not UTF-8 stand in both escaped (``unescape_path`` gives them back).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from assay.core.dvc_links import real_name
from assay.data.path_text import escape_path, unescape_path
from assay.data.picture_kinds import looks_like_a_picture

# role: as the source declares it, or missing.
COLUMNS = ["image_path", "label", "dataset", "group", "generator", "role"]
REJECTED = ["file", "dataset", "reason", "detail"]
# What the origin of an own photograph begins with.
OWN = "own: "
# Details of a reason, or names of folders, that a message shows.
SHOWN = 8


@dataclass(frozen=True)
class Listing:
    """Rows that may be decoded (`COLUMNS`), files that were rejected before that (`REJECTED`), and a class that is missing.

    The problem is no error yet: the rejected files, which may explain it, are to be written first.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    problem: str | None = None


def make_listing(
    rows: list[tuple[object, ...]], rejected: list[tuple[str, ...]], problem: str | None = None
) -> Listing:
    """A listing of tuples of `COLUMNS` and of `REJECTED`, without those whose files come twice."""
    # The types do not depend on the rows: a source with none left must not turn the others' labels into objects.
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"label": "int64", "role": object})
    return drop_conflicts(Listing(frame, pd.DataFrame(rejected, columns=REJECTED, dtype=str), problem))


def drop_conflicts(listing: Listing) -> Listing:
    """Reject every row of a file with two labels, and repeated rows of a file after its first.

    A file is known by its real path: absolute, relative and linked names of it are one, but for links of DVC's.
    """
    rows = listing.rows
    files = rows["image_path"].map(lambda name: escape_path(real_name(unescape_path(name))))
    conflicting = rows.groupby(files)["label"].transform("nunique") > 1
    repeated = files.duplicated() & ~conflicting
    parts = [listing.rejected]
    for mask, reason, detail in (
        (conflicting, "two_labels", "the path stands in the data with both labels"),
        (repeated, "repeated", "the path stands in the data already"),
    ):
        part = rows.loc[mask, ["image_path", "dataset"]].rename(columns={"image_path": "file"})
        parts.append(part.assign(reason=reason, detail=detail))
    kept = rows[~conflicting & ~repeated].reset_index(drop=True)
    return Listing(kept, pd.concat(parts, ignore_index=True), listing.problem)


def two_labels(rows: pd.DataFrame, digests: Sequence[bytes]) -> pd.DataFrame:
    """Rejected rows (`REJECTED`): images equal in every stored pixel, of which some are real and some forged.

    Args:
        rows: columns image_path, dataset, label.
        digests: of each row's stored pixels.
    """
    items = list(zip(rows["image_path"], rows["dataset"], rows["label"], digests, strict=True))
    first: dict[tuple[bytes, int], str] = {}
    for path, _, label, digest in items:
        first.setdefault((digest, label), path)
    detail = "as stored (prepare.size, resize) the same picture as {}, which has the other label"
    found = [
        (path, dataset, "two_labels", detail.format(first[digest, 1 - label]))
        for path, dataset, label, digest in items
        if (digest, 1 - label) in first
    ]
    return pd.DataFrame(found, columns=REJECTED)


def combine(listings: list[Listing]) -> Listing:
    """Several sources as one data set; the same file in two sources counts once, or is rejected if labels differ."""
    rows = pd.concat([item.rows for item in listings], ignore_index=True)
    rejected = pd.concat([item.rejected for item in listings], ignore_index=True)
    problems = [item.problem for item in listings if item.problem is not None]
    return drop_conflicts(Listing(rows, rejected, problems[0] if problems else None))


def is_hidden(name: str) -> bool:
    """Whether a relative path has a name that begins with a dot, of the file or of a folder."""
    return name.startswith(".") or "/." in name


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name or first bytes; one that can't be opened (a link to nothing) is none."""
    try:
        return looks_like_a_picture(os.fspath(path))
    except OSError:
        return False


def names_of_photos(photos: pd.DataFrame) -> pd.Series:
    """Photographs (columns file and origin) as their user knows them: own ones below the folder they came from."""
    is_own = photos["origin"].str.startswith(OWN)
    return photos["file"].where(~is_own, photos["origin"].str.removeprefix(OWN))


def rejected_in_words(rejected: pd.DataFrame) -> str:
    """How many files were rejected, by reason: details that repeat with their counts, others by an example."""
    parts = []
    for reason, part in rejected.groupby("reason", sort=False):
        details = part["detail"].value_counts()
        if len(details) < len(part) or len(part) == 1:
            shown = "; ".join(f"{detail} ({count})" for detail, count in details.head(SHOWN).items())
        else:
            shown = f"e.g. {part['file'].iloc[0]}: {part['detail'].iloc[0]}"
        parts.append(f"{len(part)} {reason}: {shown}")
    return f"{len(rejected)} rejected" + "".join(f"\n  {part}" for part in parts)


def with_rejected(message: str, rejected: pd.DataFrame, path: Path, *, joint: str = "\n") -> str:
    """An error about missing images, and behind it what was rejected, if anything, with the file that lists all of it."""
    return f"{message}{joint}{rejected_in_words(rejected)}\nAll of them: {path}" if len(rejected) else message
