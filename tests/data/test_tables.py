"""Tables that users bring: three formats, one reading, and errors that name the place."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from assay.data.tables import MISSING, check_utf8, read_inputs, read_source, write_rows

WHAT = {"columns": ("text", "counts"), "optional": ("setting", "group"), "missing": MISSING}
read_counts = partial(read_source, field="source", **WHAT)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_three_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"text": ["a,b", 'c"d'], "counts": ["3", "x"], "group": ["g", None]})
    path = tmp_path / f"own{suffix}"
    write_rows(frame, path)
    found = read_counts(path)
    assert found.to_numpy().tolist() == [["a,b", "3", None, "g"], ['c"d', "x", None, None]]


def test_a_source_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_counts(tmp_path / "missing.csv")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"suffix '.txt'"):
        read_counts(tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("text,number\nq,3\n")
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['counts'\]"):
        read_counts(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text("{broken")
    with pytest.raises(ValueError, match="not readable as JSON lines"):
        read_counts(tmp_path / "a.jsonl")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="not readable as parquet"):
        read_counts(tmp_path / "a.parquet")


def test_standard_input_holds_a_question_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert read_inputs(None)["text"].tolist() == ["one", "two"]


def test_a_table_without_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question\nq\n")
    with pytest.raises(ValueError, match="has no column text"):
        read_inputs(tmp_path / "a.csv")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="line 1, byte 1 is not UTF-8"):
        read_inputs(tmp_path / "bad.txt")


def test_a_byte_that_is_not_utf8_is_named_by_line_and_place(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes("text,counts\n好,3\n".encode() + "好".encode("gb18030") + b",4\n")
    # 12 bytes of header, 6 of the first row.
    with pytest.raises(ValueError, match=r"line 3, byte 19 is not UTF-8"):
        check_utf8(path)
    with pytest.raises(ValueError, match=r"not readable as CSV: line 3, byte 19"):
        read_counts(path)


def test_optional_columns_of_inputs_are_there_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,setting\nq,x\n")
    assert read_inputs(tmp_path / "a.csv", optional=("setting",)).to_numpy().tolist() == [["q", "x"]]
    assert read_inputs(tmp_path / "a.csv").columns.tolist() == ["text"]
    (tmp_path / "a.txt").write_text("q\n")
    assert read_inputs(tmp_path / "a.txt", optional=("setting",)).to_numpy().tolist() == [["q", None]]
