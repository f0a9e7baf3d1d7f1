"""Tables that users bring: three formats, one reading, and errors that name the place."""

import io
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from assay.data.tables import read_inputs, read_source, write_rows

WHAT = {"columns": ("text", "counts"), "optional": ("setting", "group")}
read_counts = partial(read_source, field="source", **WHAT)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_three_formats_say_the_same(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"text": ["a,b", 'c"d'], "counts": ["3", "x"], "group": ["g", None]})
    path = tmp_path / f"own{suffix}"
    write_rows(frame, path)
    found = read_counts(path)
    assert found.to_numpy().tolist() == [["a,b", "3", None, "g"], ['c"d', "x", None, None]]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "no such file"),
        ("a.txt", b"x", r"suffix '.txt'"),
        ("a.csv", b"text,number\nq,3\n", r"lacks the column\(s\) \['counts'\]"),
        ("a.jsonl", b"{broken", "not readable as JSON lines"),
        ("a.parquet", b"no parquet", "not readable as parquet"),
        # 12 bytes of header, 6 of the first row.
        ("own.csv", "text,counts\n好,3\n".encode() + "好".encode("gb18030"), "not readable as CSV: line 3, byte 19 is"),
    ],
)
def test_a_source_that_cant_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_counts(tmp_path / name)


def test_standard_input_holds_a_question_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert read_inputs(None)["text"].tolist() == ["one", "two"]


def test_a_table_without_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question\nq\n")
    with pytest.raises(ValueError, match="has no column text"):
        read_inputs(tmp_path / "a.csv")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="line 1, byte 3 is not UTF-16"):
        read_inputs(tmp_path / "bad.txt")


def test_optional_columns_of_inputs_are_there_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,setting\nq,x\n")
    assert read_inputs(tmp_path / "a.csv", optional=("setting",)).to_numpy().tolist() == [["q", "x"]]
    assert read_inputs(tmp_path / "a.csv").columns.tolist() == ["text"]
    (tmp_path / "a.txt").write_text("q\n")
    assert read_inputs(tmp_path / "a.txt", optional=("setting",)).to_numpy().tolist() == [["q", None]]
