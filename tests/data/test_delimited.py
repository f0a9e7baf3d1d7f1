"""CSV and TSV: what was written is what is read, or the line is named. Nothing shifts, and no row is lost."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.tables import problems_of, read_frame, write_rows

# All that has led readers astray: delimiters, quotes, line ends, marks, words for nothing, spaces, NUL, other scripts.
PIECES = [",", "\t", ";", '"', "'", "\\", "\n", "\r", "\r\n", " ", "\u2028", "\x85", "\ufeff", "\0", "#", "=1", "-"]
WORDS = ["", "NA", "null", "nan", "None", "N/A", "inf", "True", "0", "1.0", "007", "好，", "é", "😀", "a b"]
LETTERS = st.characters(exclude_categories=["Cs"])
FIELDS = st.lists(st.sampled_from([*PIECES, *WORDS]), max_size=4).map("".join) | st.text(LETTERS, max_size=8)
TABLES = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1))
# The csv module quotes line breaks of its own kind alone, and so QUOTE_MINIMAL is safe with both.
WRITERS = [(csv.QUOTE_MINIMAL, "\r\n"), *((csv.QUOTE_ALL, end) for end in ("\n", "\r\n", "\r"))]
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read(folder: Path, content: str | bytes, *, suffix: str = ".csv") -> list[list[object]]:
    """The names of the columns, and the rows."""
    path = folder / f"a{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame = read_frame(path)
    return [frame.columns.tolist(), *frame.to_numpy().tolist()]


@settings(deadline=None, max_examples=200)
@given(
    rows=TABLES,
    suffix=st.sampled_from(list(DELIMITERS)),
    writer=st.sampled_from(WRITERS),
    encoding=ENCODINGS,
    last=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, suffix, writer, encoding, last):
    (quoting, end), names = writer, [f"c{number}" for number in range(len(rows[0]))]
    stream = io.StringIO()
    options = {"delimiter": DELIMITERS[suffix], "quoting": quoting, "lineterminator": end}
    csv.writer(stream, **options).writerows([names, *rows])
    content = (stream.getvalue() if last else stream.getvalue().removesuffix(end)).encode(encoding)
    found = read(tmp_path_factory.mktemp("tables"), content, suffix=suffix)
    assert found == [names, *([field or None for field in row] for row in rows)]


@settings(deadline=None, max_examples=200)
@given(rows=TABLES, encoding=ENCODINGS)
def test_without_quotes_each_line_is_a_row_or_is_named(tmp_path_factory, rows, encoding):
    names = [f"c{number}" for number in range(len(rows[0]))]
    # Quotes and other line breaks have tests of their own.
    plain = [[field.translate(dict.fromkeys(map(ord, '"\r\n'))) for field in row] for row in rows]
    lines = [",".join(row) for row in plain]
    content = "\n".join([",".join(names), *lines, ""]).encode(encoding)
    wrong = [number for number, line in enumerate(lines, start=2) if line and line.count(",") >= len(names)]
    folder = tmp_path_factory.mktemp("plain")
    if not wrong:
        assert read(folder, content)[1:] == [[field or None for field in row] for row in plain]
        return
    told = rf"{len(wrong)} of {len(rows)} records don't have the header's {len(names)} field.*: line {wrong[0]} has"
    with pytest.raises(ValueError, match=told) as refused:
        read(folder, content)
    assert all(f"line {number} has {lines[number - 2].count(',') + 1}" in str(refused.value) for number in wrong[:5])


@settings(deadline=None)
@given(texts=st.lists(FIELDS, min_size=1), suffix=st.sampled_from([".jsonl", ".parquet", ".ndjson", ".JSON"]))
def test_the_other_forms_give_back_what_was_written(tmp_path_factory, texts, suffix):
    path = tmp_path_factory.mktemp("forms") / f"a{suffix}"
    frame = pd.DataFrame(
        {"text": texts, "number": [2**63 - 1 - 2 * number for number in range(len(texts))]}, dtype=object
    )
    write_rows(frame, path)
    found = read_frame(path)
    assert found.to_numpy().tolist() == frame.to_numpy().tolist()
    assert not any(problems_of(found))


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("text\nfirst\n\nthird\n", [["text"], ["first"], [None], ["third"]]),
        ("a,b\n1,2\n\n3,\n\n", [["a", "b"], ["1", "2"], [None, None], ["3", None], [None, None]]),
        ("a,b\nNA,null\nnan, None\n", [["a", "b"], ["NA", "null"], ["nan", " None"]]),
        # What belongs to no name is nobody's: an index that pandas wrote, or a comma at the end of each line.
        (",a\n0,x\n1,y\n", [["a"], ["x"], ["y"]]),
        ("a,b,\n1,2,\n", [["a", "b"], ["1", "2"]]),
        (' a ,"b\u3000"\n1,2\n', [["a", "b"], ["1", "2"]]),
        ("\ufeff\ufeffa\n1\n", [["a"], ["1"]]),
        ("a,b\n", [["a", "b"]]),
        # Lines end as the header does; in a spreadsheet of a Mac a cell may hold the other kind.
        ('a,b\r1,"x\ny"\r2,z', [["a", "b"], ["1", "x\ny"], ["2", "z"]]),
        ('"a\nb",c\r\n1,2\r\n', [["a\nb", "c"], ["1", "2"]]),
        ("a,b\n1,2\r\n3,4\n", [["a", "b"], ["1", "2"], ["3", "4"]]),
        ('a,b\n" ""x""",", ""y"\n', [["a", "b"], [' "x"', ', "y']]),
        ("a,b\n5\" disk,it's\n", [["a", "b"], ['5" disk', "it's"]]),
        (f"a\n{'x' * 200_000}\n", [["a"], ["x" * 200_000]]),
    ],
)
def test_what_stands_there_is_kept(tmp_path, content, wanted):
    assert read(tmp_path, content) == wanted


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "a,b\n吵,吵,0\n好,1\n",
            r"1 of 2 records don't have the header's 2 field\(s\): line 2 has 3; .*in double quotes",
        ),
        ("a,b\n1,2,\n3,4,\n", "line 2 has 3, line 3 has 3; .*end no line with a comma"),
        ("a,b\n" + "1\n" * 7, "7 of 7 records .*line 6 has 1 and 2 more"),
        ('a,b\n1,"x\n3,4\n', "lines 2 to 3: double quotes are not balanced"),
        ('a,b\n1,2\n"x" y,2\n', "line 3: double quotes are not balanced"),
        ("a,b\n1,x\ry\n", "line 2: a line break of another kind"),
        ('a,b\n"1\n2",3\n4,5,6\n', "line 4 has 3"),
        ("a,b, a\n1,2,3\n", "the column name 'a' stands there twice"),
        ("a;b\n1;2\n", "the header is one field, 'a;b': separate fields by commas"),
        ("", "the file is empty; its first line must name the columns"),
        ("\r\n\r\n", "the file is empty"),
        ("a,b\n好,1\n".encode("gb18030"), "line 2, byte 5 is not UTF-8 .*iconv -f GB18030"),
        ("a,b\ncafé,1\n".encode("latin-1"), "line 2, byte 8 is not UTF-8 .*iconv -f CP1252"),
        (
            ("a\n" + "很好\n" * 9).encode() + b"\xe5\xa5\n",
            "line 11, byte 66 is not UTF-8 .*nearly all of the file is: mend",
        ),
        ('a, "b"\n1,2\n', "line 1: spaces stand before a double quote"),
        (b"PK\x03\x04...", "a spreadsheet or a zip archive; save the sheet as CSV"),
        (b"\x1f\x8b...", "compressed by gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; git lfs pull"),
        ("sep=,\na,b\n1,2\n", "delete line 1 .sep=., which is Excel's own"),
        ("  \na,b\n1,2\n", "line 1 names no column"),
        ("a，b\n1，2\n", "the header is one field"),
        ('a,b\n1,"2"\n "x", "y"\n', "line 3: spaces stand before a double quote"),
        ("a,b\n1,2\n\ufeffa,b\n3,4\n", "line 3 is the header once more"),
        ("a,b\n".encode("utf-16-le"), "line 1, byte 2 is NUL: UTF-16LE without its byte order mark"),
    ],
)
def test_what_would_shift_or_get_lost_is_named(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        read(tmp_path, content)


def test_records_that_swallow_others_are_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"1 record\(s\) span lines .* from line 2"):
        assert len(read(tmp_path, 'a,b\n1,"x\n2,y\n3,z"\n')) == 2
