"""Tables that users bring: three formats, one reading, and errors that name the place."""

import base64
import io
import os
import resource
from decimal import Decimal
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.data.tables import problems_of, read_frame, read_inputs, read_source, text_cells, write_rows

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
        ("a.txt", b"x", r"suffix '.txt' is not known; use .csv, .tsv, .jsonl"),
        ("a.XLSX", b"PK", r"suffix '.XLSX' is not known; save the sheet as CSV UTF-8"),
        ("a.csv.gz", b"x", r"suffix '.gz' is not known; unpack it"),
        ("a.csv", b"text,number\nq,3\n", r"lacks the column\(s\) \['counts'\]; it has \['text', 'number'\]"),
        ("a.csv", b"text,counts\n", "has no rows"),
        ("a.json", b"[]", "has no rows"),
        ("a.jsonl", b"{broken", "not readable as JSON lines: no line is a JSON object: line 1 is not JSON"),
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
    # The same file as a file of texts: no table is ever read as lines.
    if not name.endswith(".txt") and "number" not in str(content) and content != b"text,counts\n":
        with pytest.raises(ValueError):
            read_inputs(tmp_path / name)


def test_parquet_keeps_what_is_no_text_and_whole_numbers_beside_gaps(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None]).dictionary_encode(),
            "label": [2**63 - 1, None],
            "list": [["x"], None],
            "bytes": [b"\xff", b"ok"],
            "broken": pa.array([b"\xff", b"ok"]).view(pa.string()),
            "number": [float("nan"), 1.0],
            "when": pa.array([0, None], pa.timestamp("s")),
        }
    )
    folder = tmp_path / "name=value"  # no column of the table
    folder.mkdir()
    pq.write_table(table, folder / "a.PARQUET")
    frame = read_frame(folder / "a.PARQUET")
    first, second = frame.drop(columns="when").to_numpy().tolist()
    assert first == ["a", 2**63 - 1, ["x"], b"\xff", b"\xff", None]
    assert second == [None, None, None, b"ok", "ok", 1.0]
    cells = text_cells(frame[["text", "label", "number", "when"]])
    assert cells["label"][0] == str(2**63 - 1)
    assert cells["number"][1] == "1"
    assert cells["when"][0] == "1970-01-01 00:00:00"
    problems = problems_of(text_cells(frame[["text", "list", "broken"]]))
    assert problems == ["column broken holds no text but bytes: b'\\xff'", None]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (None, b"one\n\ntwo\n", ["one", "", "two"]),
        (None, "\ufeff好\r\n\r\n坏".encode(), ["好", "", "坏"]),
        ("q", "好\r\n\r\n坏".encode("utf-16"), ["好", "", "坏"]),
        ("q.txt", b"first\n\nthird\n", ["first", "", "third"]),
        ("q.log", "one\u2028line\rtwo\r".encode(), ["one\u2028line", "two"]),
        ("q.csv", b"text\nfirst\n\nthird\n", ["first", "", "third"]),
        ("T.CSV", "text,label\n服务差,negative\n".encode(), ["服务差"]),
        ("t.TSV", b"label\ttext\n1\tNA\n", ["NA"]),
        ("t.JSONL", b'{"text": "a"}\n\n{"text": null}\n{"text": 7}\n', ["a", None, None, "7"]),
        ("t.json", b'[{"text": "a"}]', ["a"]),
        ("t.ndjson", b'{"text": "a"}', ["a"]),
        ("empty.txt", b"", []),
    ],
)
def test_inputs_are_a_row_each(monkeypatch, tmp_path: Path, name: str | None, content: bytes, wanted: list) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    path = None if name is None else tmp_path / name
    if path is not None:
        path.write_bytes(content)
    assert read_inputs(path)["text"].tolist() == wanted


def test_a_row_that_the_file_makes_unreadable_has_no_text_but_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "setting": {"x": 1}}\n{"text": "\\ud800"}\n{"text": "b"}\n')
    found = read_inputs(tmp_path / "a.jsonl", optional=("setting",))
    assert found["text"].tolist() == [None, None, "b"]
    column, line, fine = problems_of(found)
    assert column == "column setting holds no text but dict: {'x': 1}"
    assert line.startswith("line 2 holds the surrogate U+D800")
    assert fine is None


def test_a_table_without_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question\nq\n")
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['text'\]; it has \['question'\]"):
        read_inputs(tmp_path / "a.csv")
    (tmp_path / "bad.txt").write_bytes("text\n好".encode("gb18030"))
    with pytest.raises(ValueError, match=r"bad.txt can't be read: line 2, byte 6 is not UTF-8 .*iconv"):
        read_inputs(tmp_path / "bad.txt")


def test_optional_columns_of_inputs_are_there_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,setting\nq,x\n")
    assert read_inputs(tmp_path / "a.csv", optional=("setting",)).to_numpy().tolist() == [["q", "x"]]
    assert read_inputs(tmp_path / "a.csv").columns.tolist() == ["text"]
    (tmp_path / "a.txt").write_text("q\n")
    assert read_inputs(tmp_path / "a.txt", optional=("setting",)).to_numpy().tolist() == [["q", None]]


def test_of_parquet_only_what_is_needed_is_read(tmp_path: Path) -> None:
    odd = pa.array([2**62, 1], pa.timestamp("us"))
    pq.write_table(
        pa.table({" text ": ["a", "b"], "odd": odd, "price": [Decimal("1.00"), None]}), tmp_path / "a.parquet"
    )
    assert read_inputs(tmp_path / "a.parquet", optional=("price",)).to_numpy().tolist() == [["a", "1"], ["b", None]]
    with pytest.raises(ValueError, match="column odd: "):
        read_frame(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['label'\]; it has \[' text ', 'odd', 'price'\]"):
        read_source(tmp_path / "a.parquet", field="x.source", columns=("text", "label"))


def bomb(path: Path, *, rows: int, text: str) -> Path:
    """A parquet file of some kilobytes whose one text stands in every row."""
    indices = pa.array([0]).take(pa.array([0] * 1000))
    column = pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), pa.array([text]))
    table = pa.table({"text": pa.chunked_array([column] * (rows // 1000))})
    pq.write_table(table, path, compression="zstd", row_group_size=rows)
    return path


@pytest.mark.parametrize(("rows", "text"), [(40_000, "x" * 2**20), (50_000_000, "x")], ids=["long texts", "many rows"])
def test_what_parquet_unpacks_to_is_counted_before_it_is_there(tmp_path: Path, rows: int, text: str) -> None:
    path = bomb(tmp_path / "a.parquet", rows=rows, text=text)
    assert path.stat().st_size < 2**22
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ValueError, match=r"a.parquet can't be read: .*unpacks to more than 1073741824 bytes, the limit"
    ):
        read_inputs(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2**21  # KiB: of 40 GiB, no more than the limit and what Arrow holds of it


def test_a_list_of_many_values_counts_too(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "image": pa.array([[0] * 100_000])})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_frame(tmp_path / "a.parquet", columns={"text"}, max_bytes=10_000)["text"].tolist() == ["a"]
    with pytest.raises(ValueError, match="unpacks to more than 10000 bytes"):
        read_frame(tmp_path / "a.parquet", max_bytes=10_000)


def as_schema(path: Path, table: pa.Table, kind: pa.DataType) -> None:
    """Write a parquet file whose own words about its column text, in Arrow's schema, are another type's."""
    schema = base64.b64encode(pa.schema([("text", kind)]).serialize().to_pybytes())
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"ARROW:schema": schema.decode()})


def disguised(path: Path, form: str) -> None:
    """A parquet file of less than a kilobyte that stands for a thousand texts of 128 KiB."""
    long = "x" * 2**17
    same = pa.array([0] * 1000, pa.int32())
    texts = pa.DictionaryArray.from_arrays(same, pa.array([long]))
    whole = {
        "struct": lambda: pa.StructArray.from_arrays([texts], ["x"]),
        "list": lambda: pa.ListArray.from_arrays(pa.array([0, 1000], pa.int32()), texts),
        "bytes": lambda: pa.DictionaryArray.from_arrays(same, pa.array([long.encode()], pa.binary(2**17))),
        "differences": lambda: pa.array([long] * 1000),
    }
    if form in whole:
        coded = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
        options = coded if form == "differences" else {}
        table = pa.table({"text": whole[form]()})
        pq.write_table(table, path, compression="zstd", store_schema=False, **options)
    else:
        as_schema(path, pa.table({"text": texts}), pa.large_string() if form == "large" else pa.string_view())


@pytest.mark.parametrize("form", ["large", "view", "struct", "list", "bytes", "differences"])
def test_no_type_or_coding_hides_what_parquet_unpacks_to(tmp_path: Path, form: str) -> None:
    disguised(tmp_path / "a.parquet", form)
    assert (tmp_path / "a.parquet").stat().st_size < 1000
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    with pytest.raises(ValueError, match=f"unpacks to more than {2**22} bytes"):
        read_frame(tmp_path / "a.parquet", max_bytes=2**22)
    assert pool.max_memory() <= max(before, 2**25)


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        (pa.array(["a", None, "b", "a"]), "DELTA_BYTE_ARRAY"),
        (pa.array(["a", None, "b", "a"]), "DELTA_LENGTH_BYTE_ARRAY"),
        (pa.array(["a", None, "b", "a"], pa.large_string()), None),
        (pa.array(["a", None, "b", "a"], pa.string_view()), None),
        (pa.array(["{}", None], pa.json_()), None),
        (pa.array([["a", None], [], None]), None),
        (pa.array([{"x": "a"}, None, {"x": None}]), None),
        (pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())), None),
    ],
    ids=str,
)
def test_every_honest_type_and_coding_of_parquet_is_read(tmp_path: Path, values: pa.Array, coding: str | None) -> None:
    options = {"use_dictionary": False, "column_encoding": {"a.b": coding}} if coding else {}
    pq.write_table(pa.table({"a.b": values}), tmp_path / "a.parquet", **options)
    assert read_frame(tmp_path / "a.parquet")["a.b"].tolist() == values.to_pylist()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", "".join(f'{{"k{number}": 1}}\n' for number in range(9000)), "9000 different keys in 9000 records"),
        ("a.jsonl", '{"text": 1' + "".join(f', "k{number}": 1' for number in range(10_000)) + "}\n", "10000 columns"),
        ("a.csv", ",".join(map(str, range(10_001))) + "\n" + "," * 10_000 + "\n", "more than 10000 columns"),
        ("a.csv", ",".join(map(str, range(9000))) + "\n" * 9000, "8999 blank lines below a header of 9000 names"),
    ],
    ids=["keys", "one line of keys", "names", "blank lines"],
)
def test_a_small_file_is_no_table_of_more_cells_than_memory_holds(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=told):
        read_frame(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt", None])
def test_a_file_of_too_many_bytes_is_not_read(monkeypatch, tmp_path: Path, name: str | None) -> None:
    content = b"text\n" + b"x" * 5000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    path = None if name is None else tmp_path / name
    if path is not None:
        path.write_bytes(content)
        os.truncate(path, 2**40)  # sparse
    with pytest.raises(
        ValueError, match=r"more than 1000 bytes, which is the limit \(limits.table_bytes, --max-bytes\)"
    ):
        read_inputs(path, max_bytes=1000)


def test_a_text_beyond_the_limit_is_a_row_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 1001 + "\n" + "y" * 1000 + "\n")
    found = read_inputs(tmp_path / "a.txt", max_characters=1000)
    assert problems_of(found) == ["column text holds 1001 characters, at most 1000 are read", None]
    assert found["text"].tolist() == [None, "y" * 1000]


def test_what_is_no_text_is_told_without_writing_all_of_it(tmp_path: Path) -> None:
    nested: list = []
    for _ in range(60):
        nested = [nested, nested]  # written out it has 2 ** 60 brackets
    frame = pd.DataFrame({"text": [nested, {"a": "x" * 10**7}, b"\xff" * 10**7]}, dtype=object)
    for problem, word in zip(problems_of(text_cells(frame)), ("list", "dict", "bytes"), strict=True):
        assert problem.startswith(f"column text holds no text but {word}: ")
        assert len(problem) <= 120


def test_a_pipe_in_the_place_of_a_table_is_no_table(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl", ".parquet", ".txt"):
        os.mkfifo(tmp_path / f"a{suffix}")
        told = "not a regular file" + ("; give - for the file, and pipe it in" if suffix == ".txt" else "")
        with pytest.raises(ValueError, match=told):
            read_inputs(tmp_path / f"a{suffix}")
