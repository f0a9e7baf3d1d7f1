"""Rows of a manifest that a user brings: what each says, or why it can't be used."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.io import inside
from assay.data.path_text import URL, unescape_path
from assay.data.roles import ROLES, role_named
from assay.data.tables import UNREADABLE
from assay.images.class_names import label_of, names_of


def _existing(root: Path, name: str) -> Path:
    """A manifest's path: as it stands, or, where no such file is there, in another way of writing the same name.

    Those are: without spaces around it, escaped as Assay writes names that are not UTF-8, composed or decomposed, with
    the separators of Windows.
    """
    path = inside(root, name)
    if os.path.exists(path):
        return path
    for other in (
        name.strip(),
        unescape_path(name),
        unicodedata.normalize("NFC", name),
        unicodedata.normalize("NFD", name),
        name.replace("\\", "/"),
    ):
        if other != name and os.path.exists(root / other):
            return inside(root, other)
    return path


def check_row(
    record: Mapping[Any, Any], number: int, root: Path, words: Mapping[str, int]
) -> tuple[str, str] | tuple[Path, int]:
    """Where the row's file lies and its label, or why the row is rejected: (reason, detail)."""
    if record.get(UNREADABLE) is not None:
        return "unreadable", str(record[UNREADABLE])
    for column in ("path", "label"):
        if record[column] is None:
            return "missing_value", f"column {column} is empty in row {number}"
    label = label_of(record["label"], words)
    if label is None:
        return "bad_label", (
            f"label {record['label']!r} names no class; real: {names_of(words, 0)}; forged: {names_of(words, 1)}"
        )
    role = record.get("role")
    if role is not None and role_named(role) is None:
        return (
            "bad_role",
            f"role {role!r}; allowed are {', '.join(ROLES)}, and validation, valid, dev, training, testing",
        )
    if found := URL.match(record["path"]):
        return "url", f"{found[0]}... is no file: nothing is fetched; save it beside the manifest and give its path"
    try:
        return _existing(root, record["path"]), label
    except ValueError as error:
        return "outside", str(error)


def group_word(text: str) -> str:
    """A declared group as it is compared: composed, without spaces around it, and 3.0 as 3."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", unicodedata.normalize("NFC", text).strip())
