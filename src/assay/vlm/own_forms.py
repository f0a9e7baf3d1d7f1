"""The forms in which labelled images come: rows of a table, and chats as LLaVA, ShareGPT and ms-swift write them.

Of a chat only the image and the answer are taken; Assay asks questions of its own.
"""

from __future__ import annotations

from enum import StrEnum
from numbers import Integral, Real
from typing import Any, NamedTuple

from assay.vlm.messages import IMAGE, literal_tokens

# Characters of a raw value that a message shows.
SHOWN = 60
CHATS = ("messages", "conversations")
IMAGES = ("image", "images")
# The words of ShareGPT and LLaVA.
SPEAKERS = {"human": "user", "gpt": "assistant"}


class Reason(StrEnum):
    """Why a row was rejected, beside the reasons of `assay.data.decode.Reason`."""

    UNREADABLE = "unreadable"  # a line of the file that holds no record
    MALFORMED = "malformed record"
    NOT_ONE_IMAGE = "not exactly one image"
    LITERAL_TOKEN = "literal token"  # text that the tokenizer would take for one of its own tokens
    NO_LABEL = "no label"
    UNKNOWN_LABEL = "unknown label"
    SEVERAL_ANSWERS = "several answers"
    UNKNOWN_ROLE = "unknown role"
    OUTSIDE = "outside the folder"
    URL = "url"  # nothing is fetched
    MISSING_PICTURE = "missing picture"
    SEVERAL_FILES = "several files"  # names that differ in Unicode's form only
    TOO_NARROW = "too narrow"
    CONFLICTING_LABELS = "conflicting labels"
    DUPLICATE = "duplicate"


class RowRejected(Exception):
    """A row that can't be used: `reason` and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = str(reason), detail


def shown(value: object) -> str:
    """The first characters of a raw value, such that every file can hold them."""
    return str(value)[:SHOWN].encode("utf-8", "backslashreplace").decode("utf-8")


class Picture(NamedTuple):
    """An image as a record names it: a path, or bytes with the name that they had."""

    name: str
    content: bytes | None = None


def text_of(value: Any, name: str) -> str:
    """A value as text, "" for None: 1 and 1.0 (an integer column with gaps) are both 1; RowRejected for all else."""
    if not isinstance(value, str | Real | None):
        raise RowRejected(Reason.MALFORMED, f"{name} is no text but {type(value).__name__}")
    if isinstance(value, Real) and not isinstance(value, Integral) and float(value).is_integer():
        value = int(float(value))
    return "" if value is None else str(value)


def model_text(value: Any, name: str, *, placeholders: int = 0) -> str:
    """`text_of` a value that a model is to read; ``<image>`` may stand there ``placeholders`` times."""
    text = text_of(value, name)
    tokens = [token for token in literal_tokens(text) if token != IMAGE or text.count(IMAGE) > placeholders]
    if tokens:
        raise RowRejected(Reason.LITERAL_TOKEN, f"{name} spells out {', '.join(tokens)}")
    return text


def _chats(record: dict[str, Any]) -> list[str]:
    """The keys under which a record holds a chat; without any it is a row of a table."""
    return [key for key in CHATS if record.get(key) is not None]


def picture_of(record: dict[str, Any]) -> Picture:
    """The one image of a record: ``image`` or ``images`` names it, alone or in a list, or an image part of a chat.

    An entry is a path, ms-swift's ``{"path": ...}``, or ``{"bytes": ..., "path": ...}`` as Hugging Face's datasets write
    images. Raises RowRejected where there is not exactly one.
    """
    if extra := [key for key in ("videos", "audios") if record.get(key)]:
        raise RowRejected(Reason.NOT_ONE_IMAGE, f"the record has {' and '.join(extra)}")
    listed, single = _pictures(record.get("images")), _pictures(record.get("image"))
    given = [*listed, *(picture for picture in single if picture not in listed)]
    parts = [part for key in _chats(record) for _, turn in _turns(record, key) for part in turn]
    named = [_picture(part.get("image") or part.get("path")) for part in parts if part["type"] == "image"]
    # A part without a path only says where the image goes, and one that is listed is no second image.
    pictures = [*given, *(picture for picture in named if picture not in given)]
    pictures = [picture for picture in pictures if picture.content is not None or picture.name.strip()]
    if len(pictures) != 1:
        names = shown(", ".join(picture.name for picture in pictures))
        raise RowRejected(Reason.NOT_ONE_IMAGE, f"{len(pictures)} images are named: {names}")
    return pictures[0]


def _pictures(value: Any) -> list[Picture]:
    return [_picture(entry) for entry in (value if isinstance(value, list) else [value])]


def _picture(entry: Any) -> Picture:
    if isinstance(entry, bytes):
        return Picture("", entry)
    if not isinstance(entry, dict):
        return Picture(text_of(entry, "image"))
    content = entry.get("bytes")
    return Picture(text_of(entry.get("path"), "image"), content if isinstance(content, bytes) else None)


def labels_of(record: dict[str, Any]) -> dict[str, str]:
    """Answers of chats and ``label``, each by where it stands and without space around it.

    Raises RowRejected where there is none, or a chat has none.
    """
    chats = _chats(record)
    found = {key: _answer(record, key).strip() for key in chats}
    label = model_text(record.get("label"), "label").strip()
    if label or not chats:
        found["label"] = label
    if not all(found.values()):
        raise RowRejected(Reason.NO_LABEL, "the label or answer is empty")
    return found


def _turns(record: dict[str, Any], key: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """(role, parts) of each turn of the chat ``key``; a text is one part."""
    if not isinstance(record[key], list):
        raise RowRejected(Reason.MALFORMED, f"{key} is no list")
    turns = []
    for turn in record[key]:
        role = (turn.get("role") or turn.get("from")) if isinstance(turn, dict) else None
        if not isinstance(role, str):
            raise RowRejected(Reason.MALFORMED, f"{key} holds a turn without role (or from)")
        content = turn.get("content") or turn.get("value")
        parts: list[Any] = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind not in ("text", "image"):
                raise RowRejected(Reason.MALFORMED, f"content holds the part {shown(kind)}; text and image are known")
        turns.append((SPEAKERS.get(role, role), parts))
    return turns


def _answer(record: dict[str, Any], key: str) -> str:
    """The answer of the chat ``key``, "" where there is none."""
    turns = _turns(record, key)
    roles = [role for role, _ in turns]
    if roles.count("assistant") > 1:
        raise RowRejected(Reason.SEVERAL_ANSWERS, f"{roles.count('assistant')} turns of the assistant")
    if [role for role in roles if role != "system"] not in (["user", "assistant"], ["user"]) or "system" in roles[1:]:
        raise RowRejected(
            Reason.MALFORMED, f"the roles are {shown(roles)}; system (optional), user, assistant are known"
        )
    said = {}
    for role, parts in turns:
        texts = [part.get("text") for part in parts if part["type"] == "text"]
        images = len(parts) - len(texts)
        if images > (role == "user"):
            raise RowRejected(Reason.NOT_ONE_IMAGE, f"{images} image parts in the turn of the {role}")
        joined = "".join(text_of(text, f"a text of the {role}") for text in texts)
        said[role] = model_text(joined, f"the text of the {role}", placeholders=(role == "user") - images)
    return said.get("assistant", "")
