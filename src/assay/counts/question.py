"""The text of a question: what a model reads of it, and which texts are none or the same."""

from __future__ import annotations

import unicodedata
from typing import Any


def full_text(question: str, setting: str | None) -> str:
    """What a model reads: the setting that produces the answer first, so that truncation never cuts it."""
    return f"{setting.strip()}: {question.strip()}" if setting and setting.strip() else question.strip()


def question_of(text: str, setting: str) -> str:
    """The question in a `full_text`."""
    return text.removeprefix(f"{setting.strip()}: ") if setting.strip() else text


def text_form(text: str) -> str:
    """What stays of a text that is read as the same: composed (NFC), without white space and invisible characters."""
    return "".join(filter(str.isprintable, unicodedata.normalize("NFC", text))).replace(" ", "")


def text_problem(text: Any) -> tuple[str, str] | None:
    """Why a text can't be read by a model: (reason, detail), or None."""
    if not isinstance(text, str):
        return ("empty text", "") if text is None else ("no text", type(text).__name__)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return "invalid text", f"the surrogate U+{ord(text[error.start]):04X} stands at character {error.start + 1}"
    return None if text_form(text) else ("empty text", "")
