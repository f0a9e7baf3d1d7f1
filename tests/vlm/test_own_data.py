"""Every way the user's own images can come, and every way a row can be wrong."""

import json
import os
import shutil
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.core.io import sha256_file
from assay.data.decoders import PictureLimits, decoders, header_or_reason
from assay.data.tables import write_rows
from assay.params.vlm import AnswerClass
from assay.vlm.messages import messages_record, write_messages
from assay.vlm.own_data import REJECTED, ROWS, read_own
from assay.vlm.own_pictures import Pictures

FIELD = "fetch_vlm.source"
TABLE = {"image": "a.png", "label": "carpet"}
CLASSES = [
    AnswerClass(name=name, label=label, answer=answer)
    for name, label, answer in [
        *(
            ("soft", "carpet", "C"),
            ("hard", "tiles", "T"),
            ("woven", "地毯", "毯"),
            ("corridor", "地毯\u2028走廊", "廊"),
        ),
        *(("one", "1", "I"), ("two", "2", "II"), ("missing", "NA", "N")),
    ]
]


def bomb() -> bytes:
    """A PNG of a few bytes that declares 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a.png, b.png, c.png and sub/d.png, all different, copy.png, which is a.png, and what can't be used."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    for shade, name in enumerate(["a.png", "b.png", "c.png", "sub/d.png", "../out.png"]):
        Image.new("L", (32, 32), shade).save(home / name)
    for name, size in {"dot": (1, 1), "line": (1608, 8), "large": (800, 600)}.items():
        Image.new("L", size).save(home / f"{name}.png")
    whole = (home / "a.png").read_bytes()
    for name, content in {"copy": whole, "cut": whole[:-30], "gif": b"GIF89a", "bomb": bomb()}.items():
        (home / f"{name}.png").write_bytes(content)
    links = {"within": "sub/d.png", "link": "../out.png", "loop": "loop.png", "dangling": "nowhere.png"}
    for name, target in links.items():
        (home / f"{name}.png").symlink_to(target)
    (home / "linked").symlink_to(tmp_path)
    os.mkfifo(home / "pipe.png")
    return home


# Of all tests together, since a process takes a while to start.
READERS = decoders(header_or_reason, count=1, max_pixels=1_000_000)


@pytest.fixture(scope="module", autouse=True)
def _end_of_readers():
    yield
    READERS.close()


def read(path: Path, **limits: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    unpacked = path.parent.parent / "unpacked"
    unpacked.mkdir(exist_ok=True)
    given = PictureLimits(**{"max_pixels": 1_000_000, "min_side": 8, **limits})
    pictures = Pictures(path.parent, unpacked=unpacked, readers=READERS, limits=given)
    usable, rejected = read_own(path, field=FIELD, classes=CLASSES, pictures=pictures, max_bytes=2**26)
    assert list(usable.columns) == ROWS
    assert list(rejected.columns) == REJECTED
    assert str(path.parent) not in rejected.to_csv()
    return usable, rejected


def csv(folder: Path, *rows: str, header: str = "image,label") -> Path:
    (folder / "own.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "own.csv"


def jsonl(folder: Path, *records: Any) -> Path:
    (folder / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder / "own.jsonl"


def only_reason(path: Path, **limits: int) -> str:
    """The reason of a file's one row, which must be rejected."""
    usable, rejected = read(path, **limits)
    assert usable.empty
    assert rejected["row"].tolist() == [0]
    rejected.to_parquet(path.with_name("rejected.parquet"))
    return rejected["reason"].item()


# The forms of a row

PNG, OTHER = b"<a.png>", b"<b.png>"  # stand for the bytes of these files
WHICH = {"type": "text", "text": "Which?"}


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def chat_of(*images: Any, user: Any = "<image>Which class?", answer: Any = "carpet", **extra: Any) -> dict[str, Any]:
    turns = [turn("system", "Sort corridors."), turn("user", user), turn("assistant", answer)]
    return {"messages": turns, "images": list(images), **extra}


def chat_with(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns), "images": ["a.png"]}


def llava(first: str = "human", second: str = "gpt", user: str = "<image>\nWhich?") -> dict[str, Any]:
    turns = [{"from": first, "value": user}, {"from": second, "value": "carpet"}]
    return {"id": "0", "image": "a.png", "conversations": turns}


FORMS = [
    # Tables.
    TABLE,
    {"image": ["a.png"], "label": "carpet"},
    {"images": "a.png", "label": "carpet"},
    {"images": ["a.png"], "label": "carpet"},
    {"image": "a.png", "images": ["a.png"], "label": "carpet"},
    {"image": {"path": "a.png"}, "label": "carpet"},
    {"image": {"bytes": None, "path": "a.png"}, "label": "carpet"},
    *(TABLE | {"label": label} for label in (" carpet ", "Car pet", "CARPET", "soft", "Soft", "C", "c")),
    # Messages, as LLaMA-Factory and ms-swift write them.
    chat_of("a.png", answer=" carpet\n"),
    chat_of({"path": "a.png"}),
    chat_of("a.png", user="Which class?"),
    chat_of("a.png", user="Look: <image> Which class?"),
    chat_of() | {"images": "a.png"},
    *(chat_of(image=image) for image in ("a.png", ["a.png"])),
    {"image": "a.png", "messages": chat_of()["messages"]},
    chat_of("a.png", user=[{"type": "image"}, WHICH]),
    chat_of("a.png", user=[{"type": "image", "image": "a.png"}, WHICH]),
    chat_of(user=[{"type": "image", "path": "a.png"}, WHICH]),
    chat_of("a.png", answer=[{"type": "text", "text": "car"}, {"type": "text", "text": "pet"}]),
    chat_with(turn("user", "<image>Which class?"), turn("assistant", "carpet")),
    # LLaVA and ShareGPT.
    llava(),
    llava(user="Which?\n<image>"),
    llava("user", "assistant"),
    llava() | {"image": ["a.png"]},
    llava() | {"conversations": [{"from": "system", "value": "Sort."}, *llava()["conversations"]]},
    {"messages": llava()["conversations"], "images": ["a.png"]},
    {"conversations": chat_of()["messages"], "images": ["a.png"]},
    # What is said twice is the same class.
    *(chat_of("a.png", label=label) for label in (None, "", " Car pet", "soft", "C")),
    llava() | {"messages": chat_of(answer="C")["messages"], "images": ["a.png"]},
]
SUFFIXES = (".jsonl", ".json", ".parquet", ".JSONL")


def filled(value: Any, folder: Path) -> Any:
    """A value with the bytes of the files that it means."""
    if isinstance(value, dict):
        return {key: filled(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, folder) for item in value]
    return (folder / value[1:-1].decode()).read_bytes() if isinstance(value, bytes) else value


def written(folder: Path, suffix: str, *records: dict[str, Any]) -> Path:
    """A file of records: JSON lines, one JSON array, or parquet."""
    path = folder / f"own{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([filled(record, folder) for record in records]), path)
    elif suffix == ".json":
        path.write_text(json.dumps(records, indent=2), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def fits(record: dict[str, Any], suffix: str) -> bool:
    """A column of texts and lists is none that parquet can hold."""
    contents = [item.get("content") for item in record.get("messages", [])]
    return suffix != ".parquet" or not any(isinstance(content, list) for content in contents)


@pytest.mark.parametrize(
    ("suffix", "record"), [(suffix, record) for suffix in SUFFIXES for record in FORMS if fits(record, suffix)]
)
def test_every_form_of_a_row(folder, suffix, record):
    usable, rejected = read(written(folder, suffix, record))
    assert rejected.empty
    assert usable[["image", "label", "group"]].to_numpy().tolist() == [["a.png", "carpet", "a"]]
    assert usable["file"].item() == (folder / "a.png").as_posix()


def test_records_of_several_forms_may_stand_in_one_file(folder):
    records = [chat_of("a.png"), {"image": "b.png", "label": "tiles"}, ["c.png", "tiles"], llava() | {"image": "c.png"}]
    usable, rejected = read(jsonl(folder, *records))
    assert usable["row"].tolist() == [0, 1, 3]
    assert rejected["detail"].str.contains("line 3 is no object but list").tolist() == [True]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_read_by_suffix(folder, suffix):
    columns = {"image": ["a.png", "./sub//d.png"], "label": [" carpet ", "地毯"]}
    columns |= {"group": ["house", None], "caption": [None, " a hall "], "note": ["x", "y"]}
    path = folder / f"own{suffix}"
    write_rows(pd.DataFrame(columns, dtype=object), path)
    usable, rejected = read(path)
    assert rejected.empty
    rows = [[0, "a.png", "carpet", "house", None], [1, "sub/d.png", "地毯", "sub/d", "a hall"]]
    assert usable[["row", "image", "label", "group", "caption"]].to_numpy().tolist() == rows
    assert usable["row"].dtype == rejected["row"].dtype == "int64"
    # Whole numbers are labels without a point, even in a column with gaps.
    labels = pd.array([1, 2, None], dtype="Int64")
    write_rows(pd.DataFrame({"image": ["a.png", "b.png", "c.png"], "label": labels}), path)
    usable, rejected = read(path)
    assert usable["label"].tolist() == ["1", "2"]
    assert rejected["reason"].tolist() == ["no label"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        # A label that pandas would take for missing is a label; no line feed at the end.
        ("own.csv", ["image,label", "a.png,NA", "b.png,tiles"]),
        ("own.jsonl", ['{"image": "a.png", "label": "NA"}', '{"image": "b.png", "label": "tiles"}', ""]),
    ],
)
def test_a_byte_order_mark_and_crlf_change_nothing(folder, name, lines):
    (folder / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    usable, rejected = read(folder / name)
    assert rejected.empty
    assert usable[["row", "image", "label"]].to_numpy().tolist() == [[0, "a.png", "NA"], [1, "b.png", "tiles"]]


# Images that the file holds itself


def test_images_in_a_parquet_file(folder):
    """As Hugging Face's datasets write them: the bytes count, the path beside them is a name."""
    images = [
        {"bytes": PNG, "path": "x/one.png"},
        {"bytes": OTHER, "path": None},
        {"bytes": None, "path": "c.png"},
        {"bytes": None, "path": None},
        {"bytes": b"<gif.png>", "path": "a.png"},
        {"bytes": PNG, "path": "again.png"},
    ]
    labels = ["carpet", "tiles", "tiles", "tiles", "tiles", "carpet"]
    for wrapped in (images, [[image] for image in images]):
        records = [{"image": image, "label": label} for image, label in zip(wrapped, labels, strict=True)]
        usable, rejected = read(written(folder, ".parquet", *records))
        digests = [sha256_file(folder / name) for name in ("a.png", "b.png")]
        assert usable["image"].tolist() == ["x/one.png", digests[1], "c.png"]
        assert usable["group"].tolist() == [*digests, "c"]
        assert [sha256_file(file) for file in usable["file"][:2]] == digests
        assert {Path(file).name for file in usable["file"]} == {*digests, "c.png"}
        reasons = ["not exactly one image", "not_an_image", "duplicate"]
        assert rejected["reason"].tolist() == reasons
        assert rejected["row"].tolist() == [3, 4, 5]
        assert {path.name for path in (folder.parent / "unpacked").iterdir()} == set(digests)
    two = {"images": [{"bytes": PNG, "path": "a"}, {"bytes": OTHER, "path": "b"}], "label": "carpet"}
    assert only_reason(written(folder, ".parquet", two)) == "not exactly one image"
    chat = {"messages": llava()["conversations"], "images": [{"bytes": PNG, "path": None}]}
    assert read(written(folder, ".parquet", chat))[0]["label"].tolist() == ["carpet"]


def test_the_names_of_numbered_labels_in_a_parquet_file(folder):
    names = {"label": {"names": ["tiles", "carpet"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pa.table({"image": ["a.png", "b.png", "c.png"], "label": [1, 0, -1]})
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    pq.write_table(table.replace_schema_metadata(metadata), folder / "own.parquet")
    usable, rejected = read(folder / "own.parquet")
    assert usable["label"].tolist() == ["carpet", "tiles"]
    assert rejected["reason"].tolist() == ["no label"]


# Paths


@pytest.mark.parametrize(
    "spelled",
    [
        *(
            "{home}/sub/d.png",
            " sub/d.png ",
            "./sub/d.png",
            "sub\\d.png",
            ".\\sub\\d.png",
            "{home}\\sub\\d.png",
            "sub//./d.png",
        ),
        "{alias}/sub/d.png",
    ],
)
def test_a_path_that_leads_below_the_folder(folder, spelled):
    (folder.parent / "alias").symlink_to(folder)
    name = spelled.format(home=folder, alias=folder.parent / "alias")
    for path in (folder, folder.parent / "alias"):
        usable, rejected = read(jsonl(path, {"image": name, "label": "carpet"}))
        assert rejected.empty
        assert usable[["image", "group"]].to_numpy().tolist() == [["sub/d.png", "sub/d"]]


@pytest.mark.parametrize("name", ["sub\\a.png", " a.png"])
def test_a_backslash_or_space_may_be_a_part_of_a_name(folder, name):
    (folder / "b.png").rename(folder / name)
    assert read(csv(folder, f"{name},carpet"))[0]["image"].tolist() == [name]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_composed_or_not(folder, form):
    """macOS writes names apart (NFD) that a file on another machine writes in one (NFC)."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    on_disk = folder / unicodedata.normalize(form, "café") / unicodedata.normalize(form, "Zürich.png")
    on_disk.parent.mkdir()
    (folder / "a.png").rename(on_disk)
    spelled = unicodedata.normalize(other, "café/Zürich.png")
    usable, rejected = read(csv(folder, f"{spelled},carpet"))
    assert rejected.empty
    assert usable[["image", "file"]].to_numpy().tolist() == [[spelled, on_disk.as_posix()]]
    # Upper and lower case are never the same; which file is meant must be clear.
    (on_disk.parent / unicodedata.normalize(form, "ü.png")).symlink_to(folder.parent / "out.png")
    link = unicodedata.normalize(other, "café/ü.png")
    usable, rejected = read(
        csv(folder, f"{spelled.upper()},carpet", "café/A.png,tiles", "B.PNG,tiles", f"{link},carpet")
    )
    assert rejected["reason"].tolist() == [*["missing picture"] * 3, "outside the folder"]
    assert rejected["detail"].str.contains("upper and lower case").tolist() == [True, False, True, False]
    for name in ("\u1e9b\u0323.png", "\u017f\u0323\u0307.png"):
        shutil.copy(folder / "b.png", folder / name)
    assert only_reason(csv(folder, "\u017f\u0307\u0323.png,carpet")) == "several files"


BAD_IMAGES = {
    "not exactly one image": [""],
    "missing picture": ["z.png", "z" * 3000, "dangling.png", "sub\\z.png", "a.png/x.png", "A.png"],
    "url": [
        "http://example.org/a.png",
        "HTTPS://x/a.png",
        "file:///a.png",
        "data:image/png;base64 iVBOR",
        "s3://x/a.png",
    ],
    "too_small": ["dot.png"],
    "too_many_pixels": ["bomb.png", "large.png"],
    "too narrow": ["line.png"],
    "truncated": ["cut.png"],
    "not_an_image": ["gif.png"],
    "not_a_file": ["sub", "pipe.png"],
    "outside the folder": [
        *("../out.png", "/etc/passwd", "sub/../a.png", "sub/../../out.png", "C:\\a.png", "C:/a.png", "..\\out.png"),
        *("\\\\server\\share\\a.png", "link.png", "linked/out.png", "loop.png"),
    ],
}


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in BAD_IMAGES.items() for name in names])
def test_an_image_that_is_rejected(folder, reason, name):
    assert only_reason(csv(folder, f"{name},carpet"), max_pixels=479_999) == reason


def test_limits_are_the_callers(folder):
    assert len(read(csv(folder, "dot.png,carpet", "large.png,tiles"), min_side=1, max_pixels=480_000)[0]) == 2


COLUMNS = ("image", "label", "group", "caption")
TOKENS = ("<|image_pad|>", "<|im_end|>", "<image>")


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        *(("no label", TABLE | {"label": label}) for label in ("", " \t")),
        *(("literal token", TABLE | {name: f"a {token}"}) for name in ("label", "caption") for token in TOKENS),
        *(("malformed record", TABLE | {name: value}) for name in COLUMNS[1:] for value in (["carpet"], {"a": 1})),
        *(("malformed record", TABLE | {"image": value}) for value in ({"path": {}}, [["a.png"]], [3, {"path": []}])),
        *(("not exactly one image", TABLE | {"image": value}) for value in (None, [], {}, {"bytes": "00"}, ["a", "b"])),
        ("not exactly one image", TABLE | {"images": ["a.png", "b.png"]}),
        ("not exactly one image", TABLE | {"images": "b.png"}),
        *(
            ("unknown label", TABLE | {"label": label})
            for label in ("parquet", "0", 0, True, 1e20, "carpet tiles", "T1")
        ),
        ("outside the folder", TABLE | {"image": "a\0.png"}),
    ],
)
def test_a_record_that_is_rejected(folder, reason, record):
    assert only_reason(jsonl(folder, record)) == reason


# The same image twice


@pytest.mark.parametrize(
    ("rows", "kept", "rejected"),
    [
        (
            ["b.png,tiles", "a.png,carpet", "a.png, carpet", "copy.png,carpet"],
            [0, 1],
            dict.fromkeys([2, 3], "duplicate: the picture and label of row 1"),
        ),
        (
            ["a.png,carpet", "b.png,tiles", "copy.png,tiles", "a.png,carpet"],
            [1],
            dict.fromkeys([0, 2, 3], "conflicting labels: the same picture is 'carpet' in row 0, 'tiles' in row 2"),
        ),
        # A link within the folder is the image it leads to.
        (["within.png,carpet", "sub/d.png,carpet"], [0], {1: "duplicate: the picture and label of row 0"}),
        # A row that is rejected for another reason makes no conflict.
        (
            ["a.png,", "a.png,<|im_end|>", "a.png,carpet"],
            [2],
            {0: "no label: the label or answer is empty", 1: "literal token: label spells out <|im_end|>"},
        ),
    ],
)
def test_an_image_that_stands_there_twice(folder, rows, kept, rejected):
    usable, found = read(csv(folder, *rows))
    assert usable["row"].tolist() == kept
    assert dict(zip(found["row"], found["reason"] + ": " + found["detail"], strict=True)) == rejected


def test_groups_are_the_images_by_default_and_those_that_share_one_are_one(folder):
    usable, _ = read(csv(folder, "a.png,carpet", "b.png,carpet", "sub/d.png,carpet"))
    assert usable["group"].tolist() == ["a", "b", "sub/d"]
    rows = ("a.png,carpet,east", "b.png,carpet,west", "c.png,carpet,south", "a.png,carpet,west")
    usable, _ = read(csv(folder, *rows, header="image,label,group"))
    assert usable["group"].tolist() == ["east", "east", "south"]


# Chats


def test_what_assay_writes_is_read(folder):
    records = [
        messages_record(name, system="Sort.", question="Which?", answer=label, group="house", label=label)
        for name, label in [("a.png", "carpet"), ("b.png", "地毯\u2028走廊")]
    ]
    write_messages(folder / "own.jsonl", records)
    usable, rejected = read(folder / "own.jsonl")
    assert rejected.empty
    assert usable["label"].tolist() == ["carpet", "地毯\u2028走廊"]
    assert usable["group"].tolist() == ["house", "house"]


ASKED, ANSWERED = turn("user", "<image>Which?"), turn("assistant", "carpet")
BAD_CHATS = {
    "not exactly one image": [
        chat_of(),
        chat_of("a.png", "b.png", user="<image><image>Which class?"),
        chat_of("a.png", "a.png"),
        chat_of(""),
        chat_of(None),
        chat_of({"bytes": "00"}),
        chat_of("a.png", user=[{"type": "image", "image": "b.png"}, WHICH]),
        chat_of("a.png", user=[{"type": "image"}, {"type": "image"}, WHICH]),
        chat_of("a.png", answer=[{"type": "image"}, {"type": "text", "text": "carpet"}]),
        chat_of("a.png", videos=["a.mp4"]),
    ],
    "literal token": [
        chat_of("a.png", user="<image>What is <|image_pad|>?"),
        chat_of("a.png", user="<image>Which?<|im_end|>\n<|im_start|>assistant\ncarpet"),
        chat_of("a.png", user="<image>Which <video>"),
        chat_of("a.png", user="<image>What does <image> mean?"),
        chat_of("a.png", user=[{"type": "image"}, {"type": "text", "text": "<image>Which?"}]),
        chat_of("a.png", user=[{"type": "text", "text": "<image>Is <|image"}, {"type": "text", "text": "_pad|>?"}]),
        # A placeholder in another turn.
        chat_with(turn("system", "<image>"), ASKED, ANSWERED),
        chat_with(ASKED, turn("assistant", "<image>")),
    ],
    "unknown label": [chat_of("a.png", answer=answer) for answer in ("It is a carpet.", "carpet\nsoft", "C C")],
    "no label": [
        {"messages": None} | TABLE | {"label": None},
        chat_with(ASKED),
        *(chat_of("a.png", answer=answer) for answer in ("", "  \n", None, [])),
    ],
    "conflicting labels": [
        *(chat_of("a.png", label=label) for label in ("tiles", "T", "unheard of", 1)),
        chat_of("a.png", answer="unheard of", label="carpet"),
        llava() | {"messages": chat_of(answer="tiles")["messages"]},
    ],
    "several answers": [chat_with(ASKED, ANSWERED, turn("user", "Sure?"), turn("assistant", "tiles"))],
    "malformed record": [
        *({"messages": turns, "images": ["a.png"]} for turns in ("hello", {}, [], 3)),
        chat_with("hello"),
        chat_with({"content": "hello"}),
        chat_with(ANSWERED, ASKED),
        chat_with(ASKED, turn("user", "Well?"), ANSWERED),
        chat_with(ASKED, turn("system", "s"), ANSWERED),
        chat_with(ASKED, turn("tool", "t"), ANSWERED),
        chat_with(turn(["user"], "<image>Which?"), ANSWERED),
        chat_with(turn("user", ["text"]), ANSWERED),
        chat_with(turn("user", [{"type": "image_url"}]), ANSWERED),
        chat_with(turn("user", {"text": "Which?"}), ANSWERED),
    ],
}


@pytest.mark.parametrize(
    ("reason", "record"), [(reason, record) for reason, records in BAD_CHATS.items() for record in records]
)
def test_a_chat_that_is_rejected(folder, reason, record):
    assert only_reason(jsonl(folder, record)) == reason


def test_labels_that_differ_are_all_told(folder):
    record = llava() | {"messages": chat_of(answer="C")["messages"], "label": "tiles"}
    detail = read(jsonl(folder, record))[1]["detail"].item()
    assert detail == "messages says 'C', conversations says 'carpet', label says 'tiles'; one row has one class"


# Files


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("own.xlsx", b"PK", "suffix '.xlsx' is not known"),
        ("own.json", b"[]", "has no rows"),
        ("own.jsonl", b'{"image": "\xd7\xdf.png"}', "line 1, byte 12 is not UTF-8"),
        ("own.csv", b"image,label\n\xd7\xdf.png,x", "line 2, byte 13 is not UTF-8"),
        ("own.csv", b"image,label\na.png,x,y\n", "line 2"),
        ("own.jsonl", b"\n\r\n", "line 1 is blank"),
        ("own.csv", b"image,label\n", "has no rows"),
        ("own.csv", b"", "not readable as CSV"),
        ("own.parquet", b"PAR1", "not readable as parquet"),
        ("own.csv", b"image,class\na.png,x\n", r"lacks the column\(s\) \['label'\]"),
        ("own.jsonl", b'{"image": "a.png"}', r"lacks the column\(s\) \['label'\]"),
        ("own.jsonl", b'{"a": "a.png"}', r"lacks the column\(s\) \['image', 'label'\]"),
        ("own.jsonl", b"[1]", "line 1 is no object but int"),
        *((name, None, "no such file") for name in ("none.csv", "none.jsonl", "sub", "none.txt")),
    ],
)
def test_a_file_that_is_no_table_or_not_there(folder, name, content, words):
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{FIELD} .*{words}"):
        read(folder / name)


def test_a_line_that_holds_no_record_is_a_row(folder):
    lines = [
        json.dumps(TABLE),
        "",
        '{"image"',
        '{"image": "b\\ud83d.png"}',
        '{"image": "b.png", "image": "c.png"}',
        "[1]",
    ]
    (folder / "own.jsonl").write_text("\n".join([*lines, '{"image": "b.png", "label": NaN}']), encoding="utf-8")
    usable, rejected = read(folder / "own.jsonl")
    assert usable["row"].tolist() == [0]
    assert rejected["row"].tolist() == [1, 2, 3, 4, 5, 6]
    assert set(rejected["reason"]) == {"unreadable"}
    assert [detail.split(" is ")[0].split(" holds ")[0] for detail in rejected["detail"]] == [
        f"line {number}" for number in range(2, 8)
    ]


# Rows in and rows out

VALUES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
JSON = VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
NAMES = st.sampled_from(["a.png", "b.png", "sub/d.png", "z.png", "../x.png", ""]) | JSON
LABELS = st.sampled_from(["carpet", "tiles", ""]) | JSON
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image"]), "text": JSON, "image": NAMES}) | JSON
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": LABELS | PARTS | st.just("<image>Which?")}
)
TABLES = st.fixed_dictionaries(
    {"image": NAMES, "label": LABELS, "group": LABELS}, optional={"images": NAMES, "split": LABELS}
)
CHATS = st.builds(chat_of, NAMES, answer=LABELS) | st.builds(lambda image: llava() | {"image": image}, NAMES | JSON)
CHATS |= st.fixed_dictionaries(
    {"messages": st.lists(TURNS, max_size=4) | JSON, "images": st.lists(NAMES, max_size=2) | NAMES}
)
FILES = st.lists(TABLES | CHATS | JSON, max_size=6).map(lambda records: [chat_of("c.png"), *records])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(records=FILES)
def test_every_row_is_usable_or_rejected(folder, records):
    usable, rejected = read(jsonl(folder, *records))
    assert sorted([*usable["row"], *rejected["row"]]) == list(range(len(records)))
    assert usable["image"].is_unique
    for frame in (usable, rejected):
        assert frame["row"].is_monotonic_increasing
        frame.to_parquet(folder / "rows.parquet")
