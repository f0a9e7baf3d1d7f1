"""What becomes an input, and what a row looks like in each format."""

import codecs
import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.data.image_inputs import expand, left_sentence, write_rows
from assay.data.outputs import check_output
from assay.data.path_text import escape_path, unescape_path

COLUMNS, NUMBERS = ["path", "verdict", "probability", "status", "reason"], ("probability",)


def paths_of(*arguments: str, recursive: bool = False, listed: bytes = b"", null: bool = False) -> list[str]:
    items = expand(arguments, recursive=recursive, stdin=io.BytesIO(listed), null=null)
    return [item.path if item.problem is None else f"{item.path}!{item.problem.split(':')[0]}" for item in items]


TREE = "a/2.png a/1.JPG a/notes.txt a/deep/3.webp a/deep/er/0.tif b[1].png b1.png -d.png"
BELOW = ["a/1.JPG", "a/2.png", "a/deep/3.webp", "a/deep/er/0.tif"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TREE.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["a"], BELOW[:2]),
        (["./a/"], ["./a/1.JPG", "./a/2.png"]),
        # What names nothing comes with its problem.
        (["empty", "a/deep/er", "x/*.png"], ["empty!no_pictures", "a/deep/er/0.tif", "x/*.png!no_match"]),
        (["a/folder.png", "gone.png", ""], ["a/folder.png!no_pictures", "gone.png", ""]),
        # The order is kept, and nothing is taken together.
        (["b1.png", "a/2.png", "b1.png", "a"], ["b1.png", "a/2.png", "b1.png", *BELOW[:2]]),
        # An existing name is no glob, and a glob matches once.
        (["b[1].png"], ["b[1].png"]),
        (["b?.png", "*.png"], ["b1.png", "-d.png", "b1.png", "b[1].png"]),
        (["a*"], BELOW[:2]),
    ],
)
def test_files_folders_and_globs_give_their_images(arguments: list[str], wanted: list[str]) -> None:
    assert paths_of(*arguments) == wanted


@pytest.mark.usefixtures("tree")
def test_with_recursive_come_those_of_subfolders() -> None:
    assert paths_of("a", recursive=True) == BELOW
    assert sorted(paths_of("a/**", recursive=True)) == [*BELOW, "a/notes.txt"]


def test_a_list_holds_files_and_folders_as_they_are_named(tree: Path) -> None:
    (tree / "two\nlines.png").touch()
    listed = b"a/2.png\n\nb[1].png\r\ngone*.png\na/deep\nlast\xff.png"
    wanted = ["a/2.png", "b[1].png", "gone*.png", "a/deep/3.webp", os.fsdecode(b"last\xff.png")]
    assert paths_of("-", listed=listed) == wanted
    listed = b"two\nlines.png\0a/deep\0" + b"x" * 70_000 + b"\0end"
    assert paths_of("-", listed=listed, null=True) == ["two\nlines.png", "a/deep/3.webp", "x" * 70_000, "end"]


@pytest.mark.parametrize(
    ("listed", "wanted"),
    [
        ("一.png\r\nb1.png\r\n".encode("utf-16"), ["一.png", "b1.png"]),
        (codecs.BOM_UTF16_BE + "\n一.png".encode("utf-16-be"), ["一.png"]),
        (codecs.BOM_UTF8 + b"b1.png\nlast\xff.png\n", ["b1.png", os.fsdecode(b"last\xff.png")]),
        (b"", []),
    ],
)
def test_a_list_may_begin_with_a_byte_order_mark(listed: bytes, wanted: list[str]) -> None:
    assert paths_of("-", listed=listed) == wanted


@pytest.mark.parametrize(
    ("listed", "null", "told"),
    [
        ("a\n".encode("utf-16") + b"\x00", False, r": line 2, byte 7 is not UTF-16 .*iconv"),
        ("a.png\n".encode("utf-16"), True, r": it is UTF-16.* leave out --null.*iconv"),
        (b"a.png\0b.png\0", False, r" holds NUL bytes: give --null .* UTF-16LE .*iconv"),
        ("a.png\nb.png\n".encode("utf-16-le"), False, r" holds NUL bytes: give --null .* UTF-16LE .*iconv"),
    ],
)
def test_a_list_in_another_form_than_it_should_be_is_refused(listed, null, told) -> None:
    with pytest.raises(ValueError, match=f"the list on standard input{told}"):
        paths_of("-", listed=listed, null=null)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ('"a/2.png"', "without quotes"),
        ("'a/2.png'", "without quotes"),
        ("a\\2.png", "write / for"),
        (" a/2.png", "without spaces"),
        ("https://a.org/2.png?size=1", "nothing is fetched"),
        ("a/2.png\nb1.png\n", "leave out --null"),
    ],
)
def test_a_name_of_no_file_that_shows_why_has_a_hint(tree, name, told) -> None:
    (item,) = expand(["-"], recursive=False, stdin=io.BytesIO(name.encode()), null=True)
    assert item.problem.startswith("not_a_file: ")
    assert told in item.problem
    if "/" not in name:
        (tree / name).touch()
        assert paths_of("-", listed=name.encode(), null=True) == [name]


NOTES, DEEP = "not judged: 1 .txt", "2 subfolder(s) without --recursive"


@pytest.mark.parametrize(
    ("arguments", "recursive", "wanted"),
    [
        (["a"], False, f"not judged: {DEEP}, 1 .txt"),
        (["a"], True, NOTES),
        (["a", "a"], True, "not judged: 2 .txt"),
        # What a glob names itself is an input and not left, though the folder above was looked into before.
        (["a/**"], True, "not judged: "),
        (["[ae]*"], True, NOTES),
        (["-"], True, "not judged: 1 .aae, 1 .mov, 1 hidden, 1 link(s) to a folder, 1 other, 1 without a suffix"),
    ],
)
def test_what_a_folder_holds_besides_is_counted(tree, arguments, recursive, wanted):
    (tree / "phone").mkdir()
    for name in ("IMG_1.HEIC", "IMG_1.MOV", "IMG_1.AAE", "IMG_2", ".DS_Store", "no.\x01"):
        (tree / "phone" / name).write_bytes(b"")
    (tree / "phone/link").symlink_to(tree / "empty")
    left: Counter[str] = Counter()
    list(expand(arguments, recursive=recursive, stdin=io.BytesIO(b"phone\nb1.png\n"), left=left))
    said = left_sentence(left)
    assert sorted(said.removeprefix("not judged: ").split(", ")) == sorted(
        wanted.removeprefix("not judged: ").split(", ")
    )


@pytest.mark.parametrize(
    ("content", "null", "told"),
    [
        (b"x" * 10**8, False, "1048576 bytes without ends of lines"),
        (b"a.png\n" + b"x" * 2**21, False, "1048576 bytes without ends of lines"),
        (b"x" * 10**8, True, "1048576 bytes without NUL bytes"),
        (b"\xff\xfe" + b"x\0" * 2**25, False, "UTF-16 of more than 67108864 bytes"),
    ],
)
def test_a_list_without_ends_is_no_list(content: bytes, null: bool, told: str) -> None:
    stream = io.BytesIO(content)
    with pytest.raises(ValueError, match=told):
        list(expand(["-"], recursive=False, stdin=stream, null=null))
    assert b"\xff\xfe" in content or stream.tell() < 2**22  # no more was read


@pytest.mark.parametrize("null", [False, True])
def test_a_long_name_and_a_long_list_are_read(null: bool) -> None:
    end = b"\0" if null else b"\n"
    names = [b"x" * 2**20, *[b"%d.png" % number for number in range(50_000)]]
    found = expand(["-"], recursive=False, stdin=io.BytesIO(end.join(names)), null=null)
    assert [os.fsencode(item.path) for item in found] == names


def test_links_that_lead_in_a_circle_end(tree: Path) -> None:
    (tree / "a/deep/up").symlink_to(tree / "a")
    (tree / "a/broken.png").symlink_to(tree / "nowhere.png")
    assert paths_of("a", recursive=True) == [*BELOW[:2], "a/broken.png", *BELOW[2:]]


def test_a_folder_that_may_not_be_read_is_an_input_and_hides_no_other() -> None:
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        for name in ("open", "shut", "up"):
            (folder / name).mkdir()
            (folder / name / "1.png").write_bytes(b"")
        folder.chmod(0o755)
        (folder / "shut").chmod(0)
        if user == 0:
            os.seteuid(65534)  # root may read everything
        assert paths_of(f"{folder}/shut") == [f"{folder}/shut!not_readable"]
        found = paths_of(str(folder), recursive=True)
    finally:
        os.seteuid(user)
        (folder / "shut").chmod(0o755)
        shutil.rmtree(folder)
    assert sorted(found) == [f"{folder}/open/1.png", f"{folder}/shut!not_readable", f"{folder}/up/1.png"]


NAMES = [
    "plain",
    'comma, and "quotes"',
    "two\nlines",
    "return\rhere",
    "tab\there",
    "=1+1",
    "-dash",
    " space ",
    "ü☂",
    "back\\slash",
    "back\\\\two",
    "looks\\xff",
    os.fsdecode(b"latin\xe9"),
    os.fsdecode(b"mixed\\\xc3\xa9\xff\n"),
]


def read_back(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    frame = pd.read_csv(path, keep_default_na=False, na_values={"probability": ""})
    with path.open(encoding="utf-8", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == frame["path"].tolist()
    return frame.to_dict(orient="records")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_every_name_comes_back_from_every_format(tmp_path: Path, suffix: str) -> None:
    judged = {"verdict": "real", "probability": 0.25, "status": "ok", "reason": None}
    rows = [{"path": escape_path(name), **judged} for name in NAMES]
    rows += [dict.fromkeys(COLUMNS) | {"path": "bad", "status": "error", "reason": 'not_a_file: a\r\n"b", c'}]
    output = tmp_path / f"rows{suffix}"
    assert write_rows(iter(rows), output, columns=COLUMNS, numbers=NUMBERS) == (len(rows), 1)
    back = read_back(output.rename(output.with_suffix(suffix.lower())))
    assert [unescape_path(str(row["path"])) for row in back[:-1]] == NAMES
    assert [row["path"] for row in back[:-5]] == NAMES[:-4], "ordinary names stay as they are"
    assert {row["probability"] for row in back[:-1]} == {0.25}
    assert list(back[0]) == COLUMNS
    assert back[-1]["reason"] == rows[-1]["reason"]
    assert not back[-1]["verdict"]


def test_no_cell_of_a_safe_csv_is_a_formula_and_each_comes_back(tmp_path: Path) -> None:
    # The signs of a formula, wherever a spreadsheet looks for one, and cells that look like one that is marked already.
    names = [f"{sign}1+1" for sign in ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'", "'=", "''")]
    names += ["a=1", " =1", "", "1"]
    rows = [dict.fromkeys(COLUMNS) | {"path": name, "probability": -0.25, "status": "ok"} for name in names]
    write_rows(iter(rows), tmp_path / "safe.csv", columns=COLUMNS, numbers=NUMBERS, safe_csv=True)
    back = [str(row["path"]) for row in read_back(tmp_path / "safe.csv")]
    assert not [cell for cell in back if cell[:1] in "=+-@\t\r\n＝＋－＠" and cell]
    assert [cell.removeprefix("'") for cell in back] == names
    assert {row["probability"] for row in read_back(tmp_path / "safe.csv")} == {-0.25}, "a number is no formula"
    # The other formats say themselves what is text; and without the option a CSV holds what the texts are.
    for name, safe in (("rows.jsonl", True), ("rows.parquet", True), ("plain.csv", False)):
        write_rows(iter(rows), tmp_path / name, columns=COLUMNS, numbers=NUMBERS, safe_csv=safe)
        assert [row["path"] for row in read_back(tmp_path / name)] == names


@given(st.binary().filter(lambda raw: b"\0" not in raw) | st.text("\\xf0é").map(str.encode))
def test_escaping_a_path_can_be_undone(raw: bytes) -> None:
    text = escape_path(os.fsdecode(raw))
    text.encode("utf-8")
    assert os.fsencode(unescape_path(text)) == raw


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_run_that_fails_leaves_the_old_output_and_no_other_file(tmp_path: Path, suffix: str) -> None:
    def rows():
        yield from [{**dict.fromkeys(COLUMNS), "path": "a", "status": "ok"}] * 5000
        raise RuntimeError("the network failed")

    output = tmp_path / f"rows{suffix}"
    output.write_text("of last week")
    with pytest.raises(RuntimeError, match="network failed"):
        write_rows(rows(), output, columns=COLUMNS, numbers=NUMBERS)
    assert output.read_text() == "of last week"
    assert list(tmp_path.iterdir()) == [output]


def test_an_output_that_could_not_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"is a folder"):
        check_output(tmp_path / "folder.csv")
    for name in ("rows.xlsx", "rows"):
        with pytest.raises(ValueError, match=r"use \.csv, \.jsonl, \.parquet"):
            check_output(tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_output(tmp_path / "file/rows.csv")
    check_output(tmp_path / "new/rows.csv")
    check_output(None)
