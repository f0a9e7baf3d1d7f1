"""Changed copies of training texts: words left out, exchanged, replaced by synonyms, or a text translated there and back.

Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks", without its
random insertion, which puts synonyms where they mean nothing; Sennrich, Haddow and Birch 2016 for the translation back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from assay.data.encodings import read_text
from assay.params.text import AugmentText

# Of a line of Cilin: its words are synonyms, not only related (#) or alone (@).
SYNONYMS, OTHERS = "=", ("#", "@")


def read_thesaurus(path: Path) -> dict[str, list[str]]:
    """Word -> its synonyms, of a file with a set of synonyms a line, parted by white space.

    A line may begin with the code of Cilin (Mei et al. 1983): then only those that end with = are sets of synonyms.

    Raises:
        ValueError: no such file, or no line of two words.
    """
    if not path.is_file():
        raise ValueError(f"prepare_text.augment.thesaurus {path}: no such file")
    found: dict[str, set[str]] = {}
    for line in read_text(path).splitlines():
        words = line.split()
        code = words[0] if words and words[0][0].isascii() and words[0][0].isupper() else ""
        if code.endswith(OTHERS):
            continue
        words = words[1:] if code.endswith(SYNONYMS) else words
        for word in words:
            found.setdefault(word, set()).update(other for other in words if other != word)
    known = {word: sorted(others) for word, others in found.items() if others}
    if not known:
        raise ValueError(
            f"prepare_text.augment.thesaurus {path}: no line has two words; a set of synonyms a line is read"
        )
    return known


def changed(
    words: Sequence[str],
    *,
    deletion: float,
    swap: float,
    synonyms: float,
    thesaurus: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
) -> list[str]:
    """The words of a text, changed; one at least is left.

    Args:
        deletion: probability of a word to be left out.
        swap: pairs of words that change places, as a share of the words.
        synonyms: probability of a word that ``thesaurus`` knows to become one of its synonyms.
    """
    found = [
        str(rng.choice(thesaurus[word])) if word in thesaurus and rng.random() < synonyms else word for word in words
    ]
    for _ in range(round(swap * len(found))):
        one, other = rng.integers(0, len(found), 2)
        found[one], found[other] = found[other], found[one]
    kept = [word for word in found if rng.random() >= deletion]
    return kept or [found[int(rng.integers(len(found)))]]


def augmented_rows(train: pd.DataFrame, settings: AugmentText, *, seed: int) -> pd.DataFrame:
    """Changed copies of the rows of ``train`` (sample_id, text, label, group), with the sample_id of their origin.

    ``copies`` of each by words, then one by translation, if there is a pair of models. A copy that is its origin, or equals
    another copy of it, is left out.
    """
    rng, texts = np.random.default_rng(seed), list(train["text"])
    thesaurus = {} if settings.thesaurus is None else read_thesaurus(Path(settings.thesaurus))
    shares = {"deletion": settings.deletion, "swap": settings.swap, "synonyms": settings.synonyms}
    parts = [train.iloc[:0]]
    if settings.copies:
        from assay.text.masking import words_of

        words = [words_of(text) for text in texts]
        for _ in range(settings.copies):
            parts.append(
                train.assign(text=["".join(changed(row, **shares, thesaurus=thesaurus, rng=rng)) for row in words])
            )
    if settings.translation is not None:
        from assay.text.translation import translated

        for folder in settings.translation:
            texts = translated(texts, Path(folder))
        parts.append(train.assign(text=texts))
    copies = pd.concat(parts, ignore_index=True)
    origins = copies["sample_id"].map(train.set_index("sample_id")["text"])
    return copies[copies["text"] != origins].drop_duplicates(["sample_id", "text"]).reset_index(drop=True)
