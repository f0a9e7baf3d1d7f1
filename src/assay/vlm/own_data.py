"""The user's own labelled images: a table, or chats as LLaMA-Factory and ms-swift write them.

Of a chat only the image and the answer are taken; Assay asks questions of its own. What can't be used becomes a row
of (row, image, reason, detail) instead of disappearing.
"""

from __future__ import annotations

import os
from enum import StrEnum
from numbers import Integral, Real
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from assay.core.io import inside, sha256_file
from assay.data.decode import ImageRejected, decode_rgb
from assay.data.json_lines import read_json_lines
from assay.data.tables import read_source
from assay.vlm.messages import IMAGE, literal_tokens, surrogate

ROWS = ["row", "image", "label", "group", "caption"]
REJECTED = ["row", "image", "reason", "detail"]
COLUMNS = ("image", "label")
OPTIONAL = ("group", "caption")
SHOWN = 60
# The processor of Qwen2-VL and Qwen2.5-VL refuses (smart_resize) an image whose sides differ by more than this factor.
ASPECT = 200
# The words of ShareGPT, which LLaMA-Factory also takes.
SPEAKERS = {"human": "user", "gpt": "assistant"}


class Reason(StrEnum):
    """Why a row was rejected, beside the reasons of `assay.data.decode.Reason`."""

    MALFORMED = "malformed record"
    INVALID_TEXT = "invalid text"  # a surrogate, which UTF-8 can't write
    NOT_ONE_IMAGE = "not exactly one image"
    LITERAL_TOKEN = "literal token"  # text that the tokenizer would take for one of its own tokens
    NO_LABEL = "no label"
    SEVERAL_ANSWERS = "several answers"
    OUTSIDE = "outside the folder"
    MISSING_PICTURE = "missing picture"
    TOO_NARROW = "too narrow"
    CONFLICTING_LABELS = "conflicting labels"
    DUPLICATE = "duplicate"


class _Rejected(Exception):
    """A row that can't be used."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = str(reason), detail


def read_own(path: Path, *, field: str, max_pixels: int, min_side: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable and rejected rows of the user's file, each in the order of the file; every record is in one of the two.

    An image, known by the bytes of its file, that stands there with different labels is rejected wherever it stands,
    since nobody can say which label is right; with the same label the first row is kept. Rows that are rejected for
    another reason play no part in this.

    Args:
        path: CSV, JSONL or parquet with columns image, label and perhaps group and caption; or JSONL whose first record
            has ``messages`` (or ``conversations``, ShareGPT's word). Images lie in the file's folder or below it.
        field: the parameter that named ``path``, for messages.
        max_pixels, min_side: limits of `assay.data.decode.decode_rgb`, in pixels.

    Returns:
        Columns `ROWS`: row (int64) counts records from 0, blank lines of a JSONL file aside; image relative to the
        file's folder; label; group, by default the image's path without its suffix, and one for all groups that share
        an image; caption (or None). And columns `REJECTED`: image "" where there is not one to name.

    Raises:
        ValueError: no such file, unknown suffix, not UTF-8, a line that isn't JSON, a column is missing, no rows.
    """
    records, is_chat = _read_records(path, field=field)
    image_of, label_of = (_chat_image, _chat_answer) if is_chat else (_table_image, _table_label)
    digests: dict[str, str | _Rejected] = {}
    found: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for row, record in enumerate(records):
        image = ""
        try:
            if not isinstance(record, dict):
                raise _Rejected(Reason.MALFORMED, str(record))
            image = image_of(record)
            label = label_of(record).strip()
            if not label:
                raise _Rejected(Reason.NO_LABEL, "the label or answer is empty")
            group = _text(record.get("group"), "group").strip()
            caption = _checked(record.get("caption"), "caption").strip() or None
            if image not in digests:
                digests[image] = _digest(path.parent, image, max_pixels=max_pixels, min_side=min_side)
            if isinstance(digest := digests[image], _Rejected):
                raise digest.with_traceback(None)
            name = PurePosixPath(image)
            group = group or name.with_suffix("").as_posix()
            entry = {"row": row, "image": name.as_posix(), "label": label, "group": group, "caption": caption}
            found.append(entry | {"digest": digest})
        except _Rejected as error:
            rejected.append({"row": row, "image": _shown(image), "reason": error.reason, "detail": error.detail})
    kept, repeated = _without_repetition(found)
    rejected = sorted(rejected + repeated, key=lambda entry: entry["row"])
    return (
        pd.DataFrame(kept, columns=ROWS, dtype=object).astype({"row": "int64"}),
        pd.DataFrame(rejected, columns=REJECTED, dtype=object).astype({"row": "int64"}),
    )


def _read_records(path: Path, *, field: str) -> tuple[list[Any], bool]:
    """The file's records and whether they are chats; those of a CSV or parquet file are dicts."""
    is_chat = False
    if path.is_file() and path.suffix == ".jsonl":
        try:
            # Not pandas, which names no line and makes 1.0 of a 1 in a column with gaps.
            records: list[Any] = [record for _, record in read_json_lines(path)]
        except (ValueError, OSError) as error:
            raise ValueError(f"{field} {path} is not readable as JSON lines: {error}") from error
        objects = [record for record in records if isinstance(record, dict)]
        is_chat = bool(objects) and bool({"messages", "conversations"} & set(objects[0]))
        lacking = sorted(set(COLUMNS).difference(*objects))
        if records and lacking and not is_chat:
            raise ValueError(
                f"{field} {path} lacks the column(s) {lacking}; give them, or chats with messages and images"
            )
    else:
        frame = read_source(path, field=field, columns=COLUMNS, optional=OPTIONAL)
        records = frame.to_dict("records")
    if not records:
        raise ValueError(f"{field} {path} has no rows; give at least one image with its label")
    return records, is_chat


def _shown(value: Any) -> str:
    """The first characters of a raw value, such that every file can hold them."""
    return str(value)[:SHOWN].encode("utf-8", "backslashreplace").decode("utf-8")


def _text(value: Any, name: str) -> str:
    """A value as text, "" for None: 1 and 1.0 (an integer column with gaps) are both 1."""
    if not isinstance(value, str | Real | None):
        raise _Rejected(Reason.MALFORMED, f"{name} is no text but {type(value).__name__}")
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))
    text = "" if value is None else str(value)
    if wrong := surrogate(text):
        raise _Rejected(Reason.INVALID_TEXT, f"{name} holds the surrogate {wrong}: {_shown(text)}")
    return text


def _checked(value: Any, name: str, *, placeholders: int = 0) -> str:
    """`_text` of a value that a model is to read; ``<image>`` may stand there ``placeholders`` times."""
    text = _text(value, name)
    tokens = [token for token in literal_tokens(text) if token != IMAGE or text.count(IMAGE) > placeholders]
    if tokens:
        raise _Rejected(Reason.LITERAL_TOKEN, f"{name} spells out {', '.join(tokens)}")
    return text


def _table_image(record: dict[str, Any]) -> str:
    image = _text(record.get("image"), "image")
    if not image.strip():
        raise _Rejected(Reason.NOT_ONE_IMAGE, "no image is named")
    return image


def _table_label(record: dict[str, Any]) -> str:
    return _checked(record.get("label"), "label")


def _turns(record: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(role, parts) of each turn of a chat; a text is one part."""
    key, role_key, content_key = "messages", "role", "content"
    if key not in record and "conversations" in record:
        key, role_key, content_key = "conversations", "from", "value"
    if not isinstance(record.get(key), list):
        raise _Rejected(Reason.MALFORMED, f"the record has no list {key}")
    turns = []
    for turn in record[key]:
        if not isinstance(turn, dict) or not isinstance(turn.get(role_key), str):
            raise _Rejected(Reason.MALFORMED, f"{key} holds a turn without {role_key}")
        content = turn.get(content_key)
        parts: list[Any] = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind not in ("text", "image"):
                raise _Rejected(Reason.MALFORMED, f"content holds the part {_shown(kind)}; text and image are known")
        role: str = turn[role_key]
        turns.append((SPEAKERS.get(role, role), parts))
    return turns


def _chat_image(record: dict[str, Any]) -> str:
    """The one image of a chat, named by ``images``, or by an image part of its content."""
    if extra := [key for key in ("videos", "audios") if record.get(key)]:
        raise _Rejected(Reason.NOT_ONE_IMAGE, f"the record has {' and '.join(extra)}")
    listed = record.get("images") or []
    images = [_path_of(entry) for entry in (listed if isinstance(listed, list) else [listed])]
    parts = [part for _, parts in _turns(record) for part in parts if part["type"] == "image"]
    named = [_path_of(part.get("image", part.get("path"))) for part in parts]
    # A part without a path only says where the image goes, and one that ``images`` lists is no second image.
    images += [name for name in named if not listed or name not in images]
    images = [name for name in images if name.strip()]
    if len(images) != 1:
        raise _Rejected(Reason.NOT_ONE_IMAGE, f"{len(images)} images are named: {_shown(', '.join(images))}")
    return images[0]


def _path_of(entry: Any) -> str:
    """The path that an entry of ``images`` names, by itself or as ms-swift's ``{"path": ...}``."""
    return _text(entry.get("path") if isinstance(entry, dict) else entry, "image")


def _chat_answer(record: dict[str, Any]) -> str:
    """The answer of a chat, "" where there is none."""
    turns = _turns(record)
    roles = [role for role, _ in turns]
    if roles.count("assistant") > 1:
        raise _Rejected(Reason.SEVERAL_ANSWERS, f"{roles.count('assistant')} turns of the assistant")
    if [role for role in roles if role != "system"] not in (["user", "assistant"], ["user"]) or "system" in roles[1:]:
        raise _Rejected(
            Reason.MALFORMED, f"the roles are {_shown(roles)}; system (optional), user, assistant are known"
        )
    said = {}
    for role, parts in turns:
        texts = [part.get("text") for part in parts if part["type"] == "text"]
        images = len(parts) - len(texts)
        if images > (role == "user"):
            raise _Rejected(Reason.NOT_ONE_IMAGE, f"{images} image parts in the turn of the {role}")
        joined = "".join(_text(text, f"a text of the {role}") for text in texts)
        said[role] = _checked(joined, f"the text of the {role}", placeholders=(role == "user") - images)
    return said.get("assistant", "")


def _digest(folder: Path, name: str, *, max_pixels: int, min_side: int) -> str | _Rejected:
    """SHA-256 of the image ``name`` of ``folder``, or why there is none to use; no detail names the folder."""
    try:
        path = inside(folder, name)
    except ValueError:
        return _Rejected(Reason.OUTSIDE, "the path is absolute, has '..' or leads out of the file's folder by a link")
    if not os.path.exists(path):  # unlike Path.exists, also for a name too long for any file
        hint = "; write folders with /" if "\\" in name else ""
        return _Rejected(Reason.MISSING_PICTURE, f"no such file beside the table{hint}")
    try:
        height, width, _ = decode_rgb(path, max_pixels=max_pixels, min_side=min_side).shape
    except ImageRejected as error:
        return _Rejected(error.reason, error.detail)
    if max(height, width) > ASPECT * min(height, width):
        return _Rejected(
            Reason.TOO_NARROW, f"{width}x{height} pixels; one side may be {ASPECT} times the other at most"
        )
    return sha256_file(path)


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
            shown = ", ".join(f"{_shown(label)!r} in row {row}" for label, row in sorted(labels.items()))
            reason, detail = Reason.CONFLICTING_LABELS, f"the same picture is {shown}"
        for entry in entries[len(labels) == 1 :]:
            rejected.append({"row": entry["row"], "image": entry["image"], "reason": str(reason), "detail": detail})
    return sorted(kept, key=lambda entry: entry["row"]), rejected
