"""Cleaning texts, and every way a row can be wrong."""

import hashlib
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.text.cleaning import check_rows, clean

FORMS = ("NFKC", "NFC", "none")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def table(texts: list[object], labels: list[object] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"text": texts, "label": ["1"] * len(texts) if labels is None else labels}, dtype=object)


def reasons(rejected: pd.DataFrame) -> list[list[object]]:
    return rejected[["row", "reason", "detail"]].to_numpy().tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ＡＢＣ１２３，好！", "ABC123,好!"),
        ("房间\u3000很\u00a0干净\r\n\r\n\t真的", "房间 很 干净 真的"),
        ("  两头空格 \n", "两头空格"),
        ("加\u200b微\u200c信\ufeff", "加微信"),
        ("软\u00ad连\u2060字", "软连字"),
        ("响铃\x07退格\x08", "响铃退格"),
        ("换页\x0c换行\x85分隔\u2028完", "换页 换行 分隔 完"),
        ("e\u200b\u0301", "é"),
        ("👨\u200d👩\u200d👧", "👨👩👧"),
        ("\u200b\ufeff", ""),
        ("繁體中文", "繁體中文"),
    ],
)
def test_what_looks_the_same_is_written_the_same(text, expected):
    assert clean(text, unicode_form="NFKC") == expected


def test_the_form_is_the_one_asked_for_and_a_surrogate_is_no_text():
    text = "Ａe\u0301，"
    assert [clean(text, unicode_form=form) for form in FORMS] == ["Aé,", "Ａé，", "Ａe\u0301，"]
    with pytest.raises(ValueError, match=r"U\+D83D stands at character 3"):
        clean("你好\ud83d", unicode_form="NFKC")


@pytest.mark.parametrize("form", FORMS)
@given(text=TEXTS)
def test_a_clean_text_stays_as_it_is_and_lost_only_what_is_not_seen(form, text):
    cleaned, plain = clean(text, unicode_form=form), clean(text, unicode_form="none")
    seen = [c for c in text if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf")]
    assert "".join(plain.split()) == "".join(seen)
    assert cleaned == clean(cleaned, unicode_form=form) == clean(plain, unicode_form=form)
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Zl", "Zp"}
    assert "  " not in cleaned
    assert cleaned == cleaned.strip()
    assert form == "none" or unicodedata.is_normalized(form, cleaned)


@pytest.mark.parametrize(
    ("text", "label", "reason", "detail"),
    [
        (None, "1", "no text", ""),
        (17, "1", "no text", "int 17"),
        ("", "1", "empty text", ""),
        (" \n\u200b", "1", "empty text", "nothing is left after cleaning"),
        ("坏\udc80", "1", "invalid text", "the surrogate U+DC80 stands at character 2; decode it anew"),
        ("坏", "\udc80", "invalid text", "the surrogate U+DC80 stands at character 1; decode it anew"),
        ("坏", None, "no label", ""),
        ("坏", "", "no label", ""),
        ("坏", " ", "no label", "' '"),
        ("坏", [1], "no label", "[1]"),
        ("坏", "2", "unknown label", "'2'; the classes are 0, 1"),
        ("坏", 0.5, "unknown label", "'0.5'; the classes are 0, 1"),
        (None, None, "no text", ""),
    ],
)
def test_a_row_that_cant_be_used_has_its_reason(text, label, reason, detail):
    rows, rejected = check_rows(table(["好", text], ["1", label]), unicode_form="NFKC", classes=["0", "1"])
    assert rows["text"].tolist() == ["好"]
    assert reasons(rejected) == [[2, reason, detail]]


def test_the_rows_that_stay_are_cleaned_and_in_order():
    content = table(["ｂ 差", "好\u3000的", "ａ"], [0, " 1 ", 1.0])
    content.index = pd.Index([7, 7, 7])
    rows, rejected = check_rows(content, unicode_form="NFKC", classes=["0", "1"])
    assert rows.columns.tolist() == ["sample_id", "text", "label"]
    assert rows[["text", "label"]].to_numpy().tolist() == [["b 差", "0"], ["好 的", "1"], ["a", "1"]]
    assert rows["sample_id"].tolist() == [hashlib.sha256(t.encode()).hexdigest()[:16] for t in ("b 差", "好 的", "a")]
    assert rows.index.tolist() == [0, 1, 2]
    assert rejected.empty
    assert rejected.columns.tolist() == ["row", "text", "reason", "detail"]
    # Where no classes are given, a label may be anything.
    labels = ["正面", np.int64(3), np.float32(2.5), True]
    rows, _ = check_rows(table(["一", "二", "三", "四"], labels), unicode_form="NFKC", classes=None)
    assert rows["label"].tolist() == ["正面", "3", "2.5", "True"]
    assert [len(rows) for rows in check_rows(table([]), unicode_form="NFC", classes=None)] == [0, 0]


def test_the_first_of_equal_rows_is_kept():
    content = table([None, "很好！", "差", "很好!", " 很好!", "差"], ["1", "1", "0", 1, "1", "0"])
    rows, rejected = check_rows(content, unicode_form="NFKC", classes=["0", "1"])
    assert rows["text"].tolist() == ["很好!", "差"]
    duplicates = [[row, "exact duplicate", f"of row {first}"] for row, first in ((4, 2), (5, 2), (6, 3))]
    assert reasons(rejected) == [[1, "no text", ""], *duplicates]
    assert rejected["text"].tolist() == ["", "很好!", " 很好!", "差"]


def test_a_text_with_two_labels_is_rejected_everywhere():
    content = table(["一般", "好", "一般 ", "一般", "好", "好"], ["1", "1", "0", "1", "2", None])
    rows, rejected = check_rows(content, unicode_form="NFKC", classes=["0", "1"])
    # an unknown label says nothing against the known one
    assert rows[["text", "label"]].to_numpy().tolist() == [["好", "1"]]
    others = [[5, "unknown label", "'2'; the classes are 0, 1"], [6, "no label", ""]]
    assert reasons(rejected) == [[row, "two labels", "0, 1"] for row in (1, 3, 4)] + others
    # What is shown of a rejected text can be written to any file.
    _, rejected = check_rows(table(["长" * 59 + "\ud800尾巴", "字" * 80]), unicode_form="NFKC", classes=["0"])
    assert rejected["text"].tolist() == ["长" * 59 + "\\", "字" * 60]
    rejected.to_csv().encode("utf-8")
