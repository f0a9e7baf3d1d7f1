"""Texts cut before they are tokenized, where a model reads their beginning alone: a long one costs no more than that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# Characters for each token that a model reads, at first.
GENEROUS = 16
# Tokens before a cut that may be others than in the whole text.
MARGIN = 8
# Behind these tokenizers part a text: white space, and Chinese characters, which stand alone.
BREAKS = re.compile("[\\s\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]")


def beginnings(tokenizer: Any, texts: Sequence[str], *, max_tokens: int) -> list[str]:
    """A beginning of each text with the same first ``max_tokens`` tokens, and with more than that if the text has more.

    One of too few tokens (of spaces, or of a word without end) is tried again at twice its length.
    """
    return [_beginning(tokenizer, text, max_tokens=max_tokens) for text in texts]


def _beginning(tokenizer: Any, text: str, *, max_tokens: int) -> str:
    length = GENEROUS * max_tokens
    while length < len(text):
        end = next((place for place in range(length, 0, -1) if BREAKS.match(text[place - 1])), 0)
        if len(tokenizer(text[:end], verbose=False)["input_ids"]) >= max_tokens + MARGIN:
            return text[:end]
        length *= 2
    return text
