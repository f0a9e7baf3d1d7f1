"""Records of a chat about one image, in the form that LLaMA-Factory and ms-swift read.

One JSON object per line: ``{"images": [path], "messages": [system, user, assistant]}``, with ``<image>`` before the
question where the image goes; the assistant's turn is missing where the answer is to be found.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay.core.io import atomic_path
from assay.data.json_lines import read_json_lines

IMAGE = "<image>"
# The added tokens of Qwen2.5-VL's tokenizer, 151643 to 151664: each is one token wherever a text spells it out.
SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
# What LLaMA-Factory and ms-swift replace by such tokens, in every turn.
PLACEHOLDERS = (IMAGE, "<video>", "<audio>")
ROLES = ["system", "user", "assistant"]


def literal_tokens(text: str) -> list[str]:
    """The special tokens and placeholders that ``text`` spells out, each once, in the order of the two tuples.

    A tokenizer can't tell them from its own: such a text may end its turn, answer for the model or ask for an image that
    isn't there.
    """
    return [token for token in (*SPECIAL_TOKENS, *PLACEHOLDERS) if token in text]


def surrogate(text: str) -> str | None:
    """The first surrogate of ``text`` as U+XXXX, or None: it stands for no character and can't be written as UTF-8."""
    return next((f"U+{ord(character):04X}" for character in text if "\ud800" <= character <= "\udfff"), None)


def _check_text(value: Any, name: str) -> None:
    """Raise ValueError for what can't be the text ``name`` of a chat."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: got {value!r}; give a text that is not empty")
    if wrong := surrogate(value):
        raise ValueError(
            f"{name}: {value!r} holds the surrogate {wrong}, which UTF-8 can't write; decode the text anew"
        )
    if tokens := literal_tokens(value):
        raise ValueError(
            f"{name}: {value!r} spells out {', '.join(tokens)}, which the model takes as its own; remove it"
        )


def messages_record(image: str, *, system: str, question: str, answer: str | None, **extra: object) -> dict[str, Any]:
    """One chat about one image.

    Args:
        image: path of the image, as it is to be written.
        system, question: neither may be empty: a chat template puts a default of its own in an empty one's place.
        answer: None leaves the assistant's turn out.
        extra: further keys beside ``messages`` and ``images``: sample_id, label, group, transform; anything JSON can say.

    Raises:
        ValueError: a text is empty, holds a surrogate, or spells out a special token or placeholder; or ``extra`` has a
            key that the record has already.
    """
    if taken := sorted({"messages", "images"} & set(extra)):
        raise ValueError(f"extra {taken}: the record has these keys already; give others")
    _check_text(question, "question")
    turns = [{"role": "system", "content": system}, {"role": "user", "content": IMAGE + question}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    record: dict[str, Any] = {"messages": turns, "images": [image], **extra}
    check_record(record)
    return record


def check_record(record: Any) -> None:
    """Raise ValueError, naming what is wrong, for anything that `messages_record` would not make."""
    if not isinstance(record, Mapping) or not isinstance(record.get("messages"), list):
        raise ValueError("messages: not a record of a chat; give an object with a list messages")
    turns = record["messages"]
    if not all(isinstance(turn, dict) and set(turn) == {"role", "content"} for turn in turns):
        raise ValueError("messages: a turn is no object of role and content; write the record anew")
    roles = [turn["role"] for turn in turns]
    if roles not in (ROLES, ROLES[:2]):
        raise ValueError(f"messages: the roles are {roles}; they must be {ROLES}, or without the last")
    images = record.get("images")
    if not isinstance(images, list) or len(images) != 1:
        raise ValueError(f"images: got {images!r}; give a list of one path")
    if not isinstance(images[0], str) or not images[0] or surrogate(images[0]):
        raise ValueError(f"images: got {images[0]!r}; give the path of an image, writable as UTF-8")
    user = turns[1]["content"]
    if not isinstance(user, str) or not user.startswith(IMAGE):
        raise ValueError(f"question: the user's turn is {user!r}; it must begin with {IMAGE}")
    for name, text in zip(("system", "question", "answer"), _texts(record), strict=False):
        _check_text(text, name)


def _texts(record: Mapping[str, Any]) -> list[Any]:
    """System, question (without the placeholder) and, where there is one, answer of a record."""
    system, user, *answer = (turn["content"] for turn in record["messages"])
    return [system, user.removeprefix(IMAGE), *answer]


def chat(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The turns as ``processor.apply_chat_template`` of Qwen2.5-VL takes them; the image itself goes to the processor.

    Returns:
        One ``{"role", "content"}`` per turn, content a list of ``{"type": "image"}`` and ``{"type": "text", "text"}``.

    Raises:
        ValueError: not a record as `messages_record` makes it.
    """
    check_record(record)
    turns: list[dict[str, Any]] = []
    for role, text in zip(ROLES, _texts(record), strict=False):
        image = [{"type": "image"}] if role == "user" else []
        turns.append({"role": role, "content": [*image, {"type": "text", "text": text}]})
    return turns


def write_messages(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines: UTF-8, keys sorted, line feeds; whole or not at all.

    Raises:
        ValueError: naming the record (counted from 0): not as `messages_record` makes it, or beyond JSON and UTF-8.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for number, record in enumerate(records):
            try:
                check_record(record)
                line = json.dumps(dict(record), sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf-8")
            except (TypeError, ValueError) as error:
                raise ValueError(f"record {number}: {error}") from error
            file.write(line + b"\n")


def read_messages(path: str | Path) -> list[dict[str, Any]]:
    """The records that `write_messages` wrote.

    Raises:
        ValueError: naming the file: not there, not UTF-8, a line that is not JSON, or a record (counted from 0) that
            `messages_record` would not make.
    """
    try:
        lines = [line for _, line in read_json_lines(Path(path), max_bytes=sys.maxsize)]
        records = [line for line in lines if isinstance(line, dict)]
        if problems := [line for line in lines if isinstance(line, str)]:
            raise ValueError(problems[0])
        for number, record in enumerate(records):
            try:
                check_record(record)
            except ValueError as error:
                raise ValueError(f"record {number}: {error}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    return records
