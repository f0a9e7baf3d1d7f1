"""JSON lines as users write them: values as they stand, and a reason with its line for what holds none."""

import codecs
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.json_lines import read_json_lines

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES
RECORDS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2), max_size=4)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


def read(tmp_path: Path, content: str | bytes) -> list[tuple[int, dict | str]]:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_json_lines(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "line 2 is blank"),
        (" \t", "line 2 is blank"),
        ("{", "line 2 is not JSON .*; write one object per line"),
        ('{"a": 1} {"a": 2}', "line 2 is not JSON"),
        ("[1]", "line 2 is no object but list"),
        ("17", "line 2 is no object but int"),
        ('{"a": NaN}', "line 2 is not JSON .NaN is no finite number"),
        ('{"a": -Infinity}', "line 2 is not JSON .-Infinity is no finite"),
        ('{"a": 1e999}', "line 2 is not JSON .1e999 is no finite"),
        ('{"a": {"b": 1, "b": 2}}', "line 2 is not JSON .the key 'b' stands there twice"),
        ('{"a": ["\\ud83d"]}', r"line 2 holds the surrogate U\+D83D"),
        ('{"\\udcb0": 1}', r"line 2 holds the surrogate U\+DCB0"),
        ('{"a": ' + "1" * 5000 + "}", "line 2 is not JSON .a number of 5000 digits"),
        ('{"a": ' + "[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_line_without_an_object_has_its_reason(tmp_path, line, told):
    (first, second, third) = read(tmp_path, f'{{"a": 1}}\n{line}\n{{"a": "\\ud83d\\ude00"}}\n')
    assert (first, third) == ((1, {"a": 1}), (3, {"a": "😀"}))
    assert second[0] == 2
    assert re.match(told, second[1])


@given(
    records=st.lists(RECORDS, max_size=4),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n"]),
    ascii_=st.booleans(),
    last=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, records, encoding, end, ascii_, last):
    lines = [json.dumps(record, ensure_ascii=ascii_) for record in records]
    content = end.join(lines) + (end if lines and last else "")
    found = read(tmp_path_factory.mktemp("lines"), content.encode(encoding))
    assert found == list(enumerate(records, start=1))
    assert [repr(record) for _, record in found] == [repr(record) for record in records]  # 1 is neither 1.0 nor True


@given(
    records=st.lists(RECORDS, min_size=1, max_size=4),
    indent=st.sampled_from([None, 0, 2]),
    encoding=st.sampled_from(ENCODINGS),
)
def test_an_array_of_objects_is_read_as_its_items(tmp_path_factory, records, indent, encoding):
    content = json.dumps(records, indent=indent)
    found = read(tmp_path_factory.mktemp("array"), content.encode(encoding))
    assert [record for _, record in found] == records
    lines = content.split("\n")
    assert all("{" in lines[line - 1] for line, _ in found)


def test_items_of_an_array_have_lines_and_reasons(tmp_path):
    found = read(tmp_path, '\n[{"a": 1},\n\n 3,\n{"a": "\\ud800"},\n{"a": ' + "7" * 5000 + "}]\n")
    assert found[0] == (2, {"a": 1})
    assert [line for line, _ in found] == [2, 4, 5, 6]
    assert "line 4 is no object but int" in found[1][1]
    assert "line 5 holds the surrogate U+D800" in found[2][1]
    assert found[3][1] == "line 6: a number of 5000 digits"
    assert read(tmp_path, "[ ]") == read(tmp_path, "") == []


def test_many_keys_and_files_put_together(tmp_path):
    keys = ", ".join(f'"{number}": 1' for number in range(30_000))
    (row,) = read(tmp_path, f'{{{keys}, "29999": 2}}\n')
    assert "the key '29999' stands there twice" in row[1]
    assert read(tmp_path, '{"a": 1}\n\ufeff{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]
    first, second, third = read(tmp_path, '[{"a": 1},\n{"a": NaN},\n{"a": 1, "a": 2}]')
    assert first == (1, {"a": 1})
    assert (second[1], third[1]) == ("line 2: NaN is no finite number", "line 3: the key 'a' stands there twice")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"a": 1},\n]', "line 2 is not JSON"),
        (b'[{"a": 1}\n', "line 2 is not JSON .the array neither goes on nor ends"),
        (b'[{"a": 1}\n] ]', "line 2 is not JSON .the array neither goes on nor ends"),
        (b"[" * 100_000, "line 1 is not JSON"),
        ('{"a": "好"}\n'.encode("gb18030"), "line 1, byte 8 is not UTF-8 .*iconv -f GB18030 -t UTF-8 a.jsonl"),
        (codecs.BOM_UTF16_LE + b"{\x00}", "line 1, byte 5 is not UTF-16"),
        ('{"a": 1}'.encode("utf-16-be"), "line 1, byte 1 is NUL: UTF-16BE"),
        ("{}".encode("utf-32"), "the file is UTF-32"),
    ],
)
def test_a_file_that_can_not_be_read_names_the_place(tmp_path, content, told):
    with pytest.raises(ValueError, match=told):
        read(tmp_path, content)
