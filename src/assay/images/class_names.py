"""Which names of folders and values of a column mean real (0) and forged (1), and which folders name a role.

Names are compared without case and surrounding spaces. The lists hold what well-known sets are made of: CNNDetection
(0_real, 1_fake), GenImage (nature, ai), FaceForensics++ (original_sequences, manipulated_sequences), Celeb-DF.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from assay.data.roles import role_named
from assay.params.images import Classes

NAMES = {
    "real": (
        "real",
        "0_real",
        "original",
        "genuine",
        "nature",
        "original_sequences",
        "celeb-real",
        "youtube-real",
        "0",
    ),
    "forged": (
        *("forged", "fake", "1_fake", "manipulated", "synthetic", "ai", "manipulated_sequences", "celeb-synthesis"),
        "1",
    ),
}
LABELS = {"real": 0, "forged": 1}
# How tables write the numbers 0 and 1; no folder is called so.
NUMBERS = {"0.0": "0", "1.0": "1", "false": "0", "true": "1"}


def as_word(value: object) -> str:
    """A name as it is compared: without case and surrounding spaces, composed."""
    return unicodedata.normalize("NFC", str(value)).strip().casefold()


def class_words(classes: Classes | None) -> dict[str, int]:
    """Name -> label. What the user names goes before the defaults, which stand for a class that is left out."""
    given = {} if classes is None else classes.model_dump(exclude_none=True)
    words = {word: LABELS[name] for name in LABELS if name not in given for word in NAMES[name]}
    return words | {as_word(word): LABELS[name] for name, listed in given.items() for word in listed}


def names_of(words: Mapping[str, int], label: int) -> str:
    """The names that mean a label, for messages."""
    return ", ".join(word for word, meant in words.items() if meant == label)


def label_of(value: object, words: Mapping[str, int]) -> int | None:
    """The label that a value of a table means, or None; 0 and 1 may also be 0.0, 1.0, false and true."""
    word = as_word(value)
    return words.get(word, words.get(NUMBERS.get(word, word)))


class Place(NamedTuple):
    """What the folders of a path say: the labels and roles they name, the folders above and below the class folder."""

    labels: set[int]
    above: tuple[str, ...]
    below: tuple[str, ...]
    roles: set[str]


def place_of(folder: str, words: Mapping[str, int]) -> Place:
    """Read the folders of a relative path, which ends before the file.

    Those that name a class stand in neither ``above`` nor ``below``. A folder named by a number (real/0/a.png) counts as
    a class only where no other folder of the path names one. Without a class folder all folders are ``below``.
    """
    folders = PurePosixPath(folder).parts
    named = {at: word for at, word in enumerate(map(as_word, folders)) if word in words}
    if not all(word.isdigit() for word in named.values()):
        named = {at: word for at, word in named.items() if not word.isdigit()}
    first = min(named, default=0)
    roles = {role for role in map(role_named, folders) if role is not None}
    rest = tuple(name for at, name in enumerate(folders) if at >= first and at not in named)
    return Place({words[word] for word in named.values()}, folders[:first], rest, roles)
