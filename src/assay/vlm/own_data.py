"""The user's own labelled images: a table, or chats as LLaVA, ShareGPT, LLaMA-Factory and ms-swift write them.

What can't be used becomes a row of (row, image, reason, detail) instead of disappearing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from assay.data.roles import ROLES, role_named
from assay.data.tables import READ_ERRORS, UNREADABLE, read_frame
from assay.params.vlm import AnswerClass
from assay.vlm.own_forms import CHATS, IMAGES, Reason, RowRejected, labels_of, model_text, picture_of, shown, text_of
from assay.vlm.own_pictures import Pictures

ROWS = ["row", "image", "file", "label", "group", "caption", "role"]
REJECTED = ["row", "image", "reason", "detail"]
DECLARED = ("role", "split")


def read_own(
    path: Path, *, field: str, classes: Sequence[AnswerClass], pictures: Pictures, max_bytes: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable and rejected rows of the user's file, each in the order of the file; every record is in one of the two.

    An image, known by the bytes of its file, that stands there with different labels is rejected wherever it stands,
    since nobody can say which label is right; with the same label the first row is kept. Rows that are rejected for
    another reason play no part in this.

    Args:
        path: CSV, JSONL, JSON or parquet with image (or images) and label, or with chats (messages, conversations), and
            perhaps group, caption and role (or split). Images lie in the file's folder or below it, or in a parquet file.
        field: the parameter that named ``path``, for messages.
        classes: a label is one of their labels, names or answers, whatever its case and spaces; others are rejected.
        pictures: those of the file's folder.
        max_bytes: of the file itself.

    Returns:
        Columns `ROWS`: row (int64) counts records from 0; image, its name, as a rule relative to the file's folder; file,
        where it lies; label, that of a class; group, by default the image's path without its suffix (of bytes, their
        hash), and one for all groups that share an image; caption (or None); role as declared (or None). And columns
        `REJECTED`: image "" where there is not one to name.

    Raises:
        ValueError: no such file, unknown suffix, not readable, a column is missing, no rows.
    """
    records = _read_records(path, field=field, max_bytes=max_bytes)
    known = spellings(classes)
    found: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for row, record in enumerate(records):
        image = ""
        try:
            if (problem := record.get(UNREADABLE)) is not None:
                raise RowRejected(Reason.UNREADABLE, problem)
            picture = picture_of(record)
            image = picture.name
            label = _label_of(record, known, classes)
            group = text_of(record.get("group"), "group").strip()
            caption = model_text(record.get("caption"), "caption").strip() or None
            role = _role_of(record)
            image, file, digest = pictures.find(picture)
            default = digest if picture.content is not None else PurePosixPath(image).with_suffix("").as_posix()
            entry = {"row": row, "image": image, "file": file.as_posix(), "label": label, "group": group or default}
            found.append(entry | {"caption": caption, "role": role, "digest": digest})
        except RowRejected as error:
            rejected.append({"row": row, "image": shown(image), "reason": error.reason, "detail": error.detail})
    kept, repeated = _without_repetition(found)
    rejected = sorted(rejected + repeated, key=lambda entry: entry["row"])
    assert len(kept) + len(rejected) == len(records), "a row is neither kept nor rejected"
    return (
        pd.DataFrame(kept, columns=ROWS, dtype=object).astype({"row": "int64"}),
        pd.DataFrame(rejected, columns=REJECTED, dtype=object).astype({"row": "int64"}),
    )


def _read_records(path: Path, *, field: str, max_bytes: int) -> list[dict[Any, Any]]:
    """The file's records; one that can't be read has a text under `UNREADABLE` that says why."""
    if not path.is_file():
        raise ValueError(f"{field} {str(path)!r}: no such file; give render, or a file with image and label")
    try:
        frame = read_frame(path, max_bytes=max_bytes)
        if path.suffix.lower() == ".parquet" and "label" in frame:
            frame["label"] = _named(frame["label"], _class_names(path))
    except READ_ERRORS as error:
        raise ValueError(f"{field} {path}: {error}") from error
    if frame.empty:
        raise ValueError(f"{field} {path} has no rows; give at least one image with its label")
    columns = set(frame) - {UNREADABLE}
    if not columns & set(CHATS):
        lacking = [name for name, names in (("image", IMAGES), ("label", ("label",))) if not columns & set(names)]
        if lacking:
            raise ValueError(
                f"{field} {path} lacks the column(s) {lacking}; it has {sorted(map(str, columns))}; give them, "
                "or chats with messages and images"
            )
    return frame.to_dict("records")


def _class_names(path: Path) -> list[str]:
    """The names that Hugging Face's datasets keep in a parquet file for labels written as numbers; [] if there are none."""
    import pyarrow.parquet as pq

    value = json.loads((pq.read_schema(path).metadata or {}).get(b"huggingface", b"null"))
    for key in ("info", "features", "label", "names"):
        value = value.get(key) if isinstance(value, dict) else None
    return [str(name) for name in value] if isinstance(value, list) else []


def _named(labels: pd.Series, names: Sequence[str]) -> pd.Series:
    """Labels by name: number 1 is the second name, and -1, which stands for no label, is None."""
    if not names:
        return labels
    numbers = dict(enumerate(names)) | {-1: None}
    found = [numbers.get(label, label) if isinstance(label, int) else label for label in labels]
    return pd.Series(found, index=labels.index, dtype=object)


def spellings(classes: Iterable[AnswerClass]) -> dict[str, str]:
    """How a class may be written, without case and spaces, and its label: its label, else its name, else its answer.

    What stands for two classes, because they differ in case or spaces only, stands for none.
    """
    known: dict[str, str] = {}
    for part in ("answer", "name", "label"):
        found: dict[str, set[str]] = {}
        for item in classes:
            found.setdefault(_folded(getattr(item, part)), set()).add(item.label)
        for text, labels in found.items():
            known.pop(text, None)
            if len(labels) == 1:
                known[text] = labels.pop()
    return known


def _folded(text: str) -> str:
    return "".join(text.split()).casefold()


def _label_of(record: dict[str, Any], known: Mapping[str, str], classes: Sequence[AnswerClass]) -> str:
    """The label of the one class that a record's label and answers name."""
    labels = [item.label for item in classes]
    given = labels_of(record)
    # Two ways of writing one class are no contradiction.
    named = {text if text in labels else known.get(_folded(text)) for text in given.values()}
    if len(named) > 1:
        told = ", ".join(f"{place} says {shown(text)!r}" for place, text in given.items())
        raise RowRejected(Reason.CONFLICTING_LABELS, f"{told}; one row has one class")
    if (label := named.pop()) is None:
        raise RowRejected(Reason.UNKNOWN_LABEL, f"{shown(next(iter(given.values())))!r} is none of {', '.join(labels)}")
    return label


def _role_of(record: Mapping[str, Any]) -> str | None:
    """The role that a record declares by ``role`` or ``split``, None where it declares none."""
    given = {text for name in DECLARED if (text := text_of(record.get(name), name).strip())}
    roles = {role_named(text) for text in given}
    if len(roles) > 1 or None in roles:
        raise RowRejected(Reason.UNKNOWN_ROLE, f"{shown(sorted(given))} is not one of {', '.join(ROLES)}")
    return next(iter(roles), None)


def _without_repetition(found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows to keep, with their groups, and rows that repeat or contradict another."""
    same: dict[str, list[dict[str, Any]]] = {}
    for entry in found:
        same.setdefault(entry["digest"], []).append(entry)
    # Groups that share an image are one.
    merged = DisjointSet([entry["group"] for entry in found])
    for first, *others in same.values():
        for other in others:
            merged.merge(first["group"], other["group"])
    kept, rejected = [], []
    for entries in same.values():
        labels = {entry["label"]: entry["row"] for entry in reversed(entries)}  # the first row of each
        if len(labels) == 1:
            kept.append({**entries[0], "group": merged[entries[0]["group"]]})
            reason, detail = Reason.DUPLICATE, f"the picture and label of row {entries[0]['row']}"
        else:
            named = ", ".join(f"{shown(label)!r} in row {row}" for label, row in sorted(labels.items()))
            reason, detail = Reason.CONFLICTING_LABELS, f"the same picture is {named}"
        for entry in entries[len(labels) == 1 :]:
            rejected.append({"row": entry["row"], "image": entry["image"], "reason": str(reason), "detail": detail})
    return sorted(kept, key=lambda entry: entry["row"]), rejected
