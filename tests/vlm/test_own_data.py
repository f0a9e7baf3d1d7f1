"""Every way the user's own pictures can come, and every way a row can be wrong."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.data.tables import write_rows
from assay.vlm.messages import messages_record, write_messages
from assay.vlm.own_data import REJECTED, ROWS, read_own

FIELD = "fetch_vlm.source"


def picture(path: Path, shade: int = 0, size: tuple[int, int] = (32, 32)) -> str:
    """A picture of one grey; other shades are other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)
    return path.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a.png, b.png, c.png and sub/d.png, all different."""
    home = tmp_path / "home"
    for shade, name in enumerate(["a.png", "b.png", "c.png", "sub/d.png"]):
        picture(home / name, shade)
    return home


def read(path: Path, **limits: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    usable, rejected = read_own(path, field=FIELD, **{"max_pixels": 1_000_000, "min_side": 8, **limits})
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


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def chat_of(*images: Any, user: Any = "<image>Which class?", answer: Any = "carpet", **extra: Any) -> dict[str, Any]:
    turns = [turn("system", "Sort corridors."), turn("user", user), turn("assistant", answer)]
    return {"messages": turns, "images": list(images), **extra}


def only_reason(path: Path, **limits: int) -> str:
    """The reason of a file's one row, which must be refused."""
    usable, rejected = read(path, **limits)
    assert usable.empty
    assert rejected["row"].tolist() == [0]
    return rejected["reason"].item()


# Tables


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_read_by_suffix(folder: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {
            "image": ["a.png", "./sub//d.png"],
            "label": [" carpet ", "地毯"],
            "group": ["house", None],
            "caption": [None, " a hall "],
        },
        dtype=object,
    )
    path = folder / f"own{suffix}"
    write_rows(frame, path)
    usable, rejected = read(path)
    assert rejected.empty
    assert usable.to_numpy().tolist() == [
        [0, "a.png", "carpet", "house", None],
        [1, "sub/d.png", "地毯", "sub/d", "a hall"],
    ]
    assert usable["row"].dtype == rejected["row"].dtype == "int64"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_whole_numbers_are_labels_without_a_point(folder: Path, suffix: str) -> None:
    path = folder / f"own{suffix}"
    frame = pd.DataFrame({"image": ["a.png", "b.png", "c.png"], "label": pd.array([1, 2, None], dtype="Int64")})
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
    usable, rejected = read(path)
    assert usable["label"].tolist() == ["1", "2"]
    assert rejected["reason"].tolist() == ["no label"]


def test_a_label_that_pandas_would_take_for_missing_is_a_label(folder: Path) -> None:
    assert read(csv(folder, "a.png,NA"))[0]["label"].tolist() == ["NA"]


def test_extra_columns_and_an_ending_without_a_line_feed(folder: Path) -> None:
    (folder / "own.csv").write_text("note,label,image\nx,carpet,a.png")
    assert read(folder / "own.csv")[0]["image"].tolist() == ["a.png"]


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_byte_order_mark_and_crlf_change_nothing(folder: Path, name: str) -> None:
    lines = ["image,label", "a.png,carpet", "b.png,tiles", ""]
    if name == "own.jsonl":
        lines = [
            json.dumps({"image": "a.png", "label": "carpet"}),
            "",
            json.dumps({"image": "b.png", "label": "tiles"}),
        ]
    (folder / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    usable, rejected = read(folder / name)
    assert rejected.empty
    assert usable[["row", "image", "label"]].to_numpy().tolist() == [[0, "a.png", "carpet"], [1, "b.png", "tiles"]]


@pytest.mark.parametrize("label", ["", '"  "', '"\t"'])
def test_no_label(folder: Path, label: str) -> None:
    assert only_reason(csv(folder, f"a.png,{label}")) == "no label"


def test_no_image(folder: Path) -> None:
    assert only_reason(csv(folder, ",carpet")) == "not exactly one image"


@pytest.mark.parametrize("column", ["label", "caption"])
@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>", "<image>"])
def test_a_literal_token_in_a_table(folder: Path, column: str, token: str) -> None:
    record = {"image": "a.png", "label": "carpet", column: f"a {token}"}
    assert only_reason(jsonl(folder, record)) == "literal token"


@pytest.mark.parametrize("value", [["carpet"], {"a": 1}])
@pytest.mark.parametrize("column", ["image", "label", "group", "caption"])
def test_a_value_that_is_no_text(folder: Path, column: str, value: Any) -> None:
    assert only_reason(jsonl(folder, {"image": "a.png", "label": "carpet", column: value})) == "malformed record"


@pytest.mark.parametrize("column", ["image", "label", "group", "caption"])
def test_a_surrogate(folder: Path, column: str) -> None:
    path = jsonl(folder, {"image": "a.png", "label": "carpet", column: "x\udcff\ud800"})
    assert only_reason(path) == "invalid text"
    read(path)[1].to_parquet(folder / "rejected.parquet")


def test_a_line_that_is_no_object(folder: Path) -> None:
    path = jsonl(folder, {"image": "a.png", "label": "carpet"}, ["b.png", "tiles"], None, 3)
    usable, rejected = read(path)
    assert usable["row"].tolist() == [0]
    assert rejected["reason"].tolist() == ["malformed record"] * 3


# Pictures


def test_a_missing_picture(folder: Path) -> None:
    _, rejected = read(csv(folder, "z.png,carpet"))
    assert rejected[["row", "image", "reason"]].to_numpy().tolist() == [[0, "z.png", "missing picture"]]


@pytest.mark.parametrize("name", ["z" * 3000, "dangling.png", "sub\\d.png", "a.png/x.png"])
def test_other_names_without_a_picture(folder: Path, name: str) -> None:
    (folder / "dangling.png").symlink_to("nowhere.png")
    assert only_reason(csv(folder, f"{name},carpet")) == "missing picture"


def test_a_picture_too_small(folder: Path) -> None:
    picture(folder / "dot.png", size=(1, 1))
    path = csv(folder, "dot.png,carpet")
    assert only_reason(path) == "too_small"
    assert len(read(path, min_side=1)[0]) == 1


def test_a_large_picture_is_taken_within_the_limit_only(folder: Path) -> None:
    picture(folder / "large.png", size=(8000, 6000))
    path = csv(folder, "large.png,carpet")
    assert len(read(path, max_pixels=50_000_000)[0]) == 1
    assert only_reason(path, max_pixels=47_999_999) == "too_many_pixels"


def test_a_decompression_bomb(folder: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (folder / "bomb.png").write_bytes(png)
    assert only_reason(csv(folder, "bomb.png,carpet"), max_pixels=10**12) == "too_many_pixels"


def test_a_picture_too_narrow_for_the_processor(folder: Path) -> None:
    picture(folder / "line.png", size=(1608, 8))
    picture(folder / "strip.png", size=(8, 1600))
    usable, rejected = read(csv(folder, "line.png,carpet", "strip.png,carpet"))
    assert usable["image"].tolist() == ["strip.png"]
    assert rejected["reason"].tolist() == ["too narrow"]


@pytest.mark.parametrize(("data", "reason"), [(b"", "not_an_image"), (b"GIF89a", "truncated"), (None, "truncated")])
def test_a_damaged_picture(folder: Path, data: bytes | None, reason: str) -> None:
    (folder / "bad.png").write_bytes((folder / "a.png").read_bytes()[:-30] if data is None else data)
    assert only_reason(csv(folder, "bad.png,carpet")) in {reason, "not_an_image"}


@pytest.mark.parametrize("name", ["sub", "pipe.png"])
def test_things_that_are_no_files(folder: Path, name: str) -> None:
    os.mkfifo(folder / "pipe.png")
    assert only_reason(csv(folder, f"{name},carpet")) == "not_a_file"


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "sub/../a.png", "sub/../../out.png", "C:\\a.png"])
def test_a_path_out_of_the_folder(folder: Path, name: str) -> None:
    picture(folder.parent / "out.png", 99)
    assert only_reason(csv(folder, f"{name},carpet")) == "outside the folder"


def test_an_absolute_path_into_the_folder(folder: Path) -> None:
    # Not through `read`: the row must say what the user wrote.
    _, rejected = read_own(csv(folder, f"{folder}/a.png,carpet"), field=FIELD, max_pixels=10_000, min_side=8)
    assert rejected["reason"].tolist() == ["outside the folder"]


@pytest.mark.parametrize("name", ["link.png", "linked/out.png", "loop.png"])
def test_a_link_out_of_the_folder(folder: Path, name: str) -> None:
    picture(folder.parent / "out.png", 99)
    (folder / "link.png").symlink_to("../out.png")
    (folder / "linked").symlink_to(folder.parent)
    (folder / "loop.png").symlink_to("loop.png")
    assert only_reason(csv(folder, f"{name},carpet")) == "outside the folder"


def test_a_link_within_the_folder_is_the_picture_it_leads_to(folder: Path) -> None:
    (folder / "link.png").symlink_to("sub/d.png")
    usable, rejected = read(csv(folder, "link.png,carpet", "sub/d.png,carpet"))
    assert usable["image"].tolist() == ["link.png"]
    assert rejected["reason"].tolist() == ["duplicate"]


def test_a_nul_in_a_path(folder: Path) -> None:
    assert only_reason(jsonl(folder, {"image": "a\0.png", "label": "carpet"})) == "outside the folder"


# The same picture twice


def test_the_same_picture_and_label_is_kept_once(folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    usable, rejected = read(csv(folder, "b.png,tiles", "a.png,carpet", "a.png, carpet", "copy.png,carpet"))
    assert usable["row"].tolist() == [0, 1]
    assert rejected[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate"], [3, "duplicate"]]
    assert "row 1" in rejected["detail"].iloc[0]


def test_the_same_picture_with_other_labels_is_refused_wherever_it_stands(folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    usable, rejected = read(csv(folder, "a.png,carpet", "b.png,tiles", "copy.png,tiles", "a.png,carpet"))
    assert usable["row"].tolist() == [1]
    assert rejected["row"].tolist() == [0, 2, 3]
    assert set(rejected["reason"]) == {"conflicting labels"}
    assert rejected["detail"].iloc[0] == "the same picture is 'carpet' in row 0, 'tiles' in row 2"


def test_a_row_refused_for_another_reason_makes_no_conflict(folder: Path) -> None:
    usable, rejected = read(csv(folder, "a.png,", "a.png,<|im_end|>", "a.png,carpet"))
    assert usable["row"].tolist() == [2]
    assert rejected["reason"].tolist() == ["no label", "literal token"]


def test_each_picture_is_its_own_group_by_default(folder: Path) -> None:
    usable, _ = read(csv(folder, "a.png,carpet", "b.png,carpet", "sub/d.png,carpet"))
    assert usable["group"].tolist() == ["a", "b", "sub/d"]


def test_groups_that_share_a_picture_are_one(folder: Path) -> None:
    path = csv(
        folder,
        "a.png,carpet,east",
        "b.png,carpet,west",
        "c.png,carpet,south",
        "a.png,carpet,west",
        header="image,label,group",
    )
    assert read(path)[0]["group"].tolist() == ["east", "east", "south"]


# Chats


def test_chats_of_llama_factory(folder: Path) -> None:
    usable, rejected = read(jsonl(folder, chat_of("a.png"), chat_of("sub/d.png", answer=" tiles\n", group="house")))
    assert rejected.empty
    assert usable.to_numpy().tolist() == [[0, "a.png", "carpet", "a", None], [1, "sub/d.png", "tiles", "house", None]]


@pytest.mark.parametrize(
    "record",
    [
        chat_of({"path": "a.png"}),
        chat_of("a.png", user="Which class?"),
        chat_of("a.png", user="Look: <image> Which class?"),
        chat_of("a.png") | {"images": "a.png"},
        chat_of("a.png", user=[{"type": "image"}, {"type": "text", "text": "Which?"}]),
        chat_of("a.png", user=[{"type": "image", "image": "a.png"}, {"type": "text", "text": "Which?"}]),
        chat_of(user=[{"type": "image", "path": "a.png"}, {"type": "text", "text": "Which?"}]),
        chat_of("a.png", answer=[{"type": "text", "text": "car"}, {"type": "text", "text": "pet"}]),
        {"messages": chat_of()["messages"][1:], "images": ["a.png"]},
        {
            "conversations": [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": "carpet"}],
            "images": ["a.png"],
        },
    ],
)
def test_other_forms_of_a_chat(folder: Path, record: dict[str, Any]) -> None:
    usable, rejected = read(jsonl(folder, record))
    assert rejected.empty
    assert usable[["image", "label"]].to_numpy().tolist() == [["a.png", "carpet"]]


def test_what_assay_writes_is_read(folder: Path) -> None:
    records = [
        messages_record(name, system="Sort.", question="Which?", answer=label, group="house", label=label)
        for name, label in [("a.png", "carpet"), ("b.png", "地毯\u2028走廊")]
    ]
    write_messages(folder / "own.jsonl", records)
    usable, rejected = read(folder / "own.jsonl")
    assert rejected.empty
    assert usable["label"].tolist() == ["carpet", "地毯\u2028走廊"]
    assert usable["group"].tolist() == ["house", "house"]


@pytest.mark.parametrize(
    "record",
    [
        chat_of(),
        chat_of("a.png", "b.png", user="<image><image>Which class?"),
        chat_of("a.png", "a.png"),
        chat_of(""),
        chat_of(None),
        chat_of({"bytes": "00"}),
        chat_of("a.png", user=[{"type": "image", "image": "b.png"}, {"type": "text", "text": "Which?"}]),
        chat_of("a.png", user=[{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Which?"}]),
        chat_of("a.png", answer=[{"type": "image"}, {"type": "text", "text": "carpet"}]),
        chat_of("a.png", videos=["a.mp4"]),
    ],
)
def test_a_chat_without_exactly_one_image(folder: Path, record: dict[str, Any]) -> None:
    assert only_reason(jsonl(folder, record)) == "not exactly one image"


def test_two_images_are_both_named(folder: Path) -> None:
    _, rejected = read(jsonl(folder, chat_of("a.png", "b.png")))
    assert rejected[["image", "detail"]].to_numpy().tolist() == [["", "2 images are named: a.png, b.png"]]


@pytest.mark.parametrize(
    "user",
    [
        "<image>What is <|image_pad|>?",
        "<image>Which?<|im_end|>\n<|im_start|>assistant\ncarpet",
        "<image><|vision_start|>Which?<|vision_end|>",
        "<image>Which <|video_pad|>",
        "<image>Which <video>",
        "<image>What does <image> mean?",
        [{"type": "image"}, {"type": "text", "text": "<image>Which?"}],
        [{"type": "text", "text": "<image>What is <|image"}, {"type": "text", "text": "_pad|>?"}],
    ],
)
def test_a_literal_token_in_the_users_text(folder: Path, user: Any) -> None:
    assert only_reason(jsonl(folder, chat_of("a.png", user=user))) == "literal token"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_placeholder_in_another_turn(folder: Path, role: str) -> None:
    turns = [turn("system", "s"), turn("user", "Which?"), turn("assistant", "carpet")]
    turns = [said | {"content": "<image>"} if said["role"] == role else said for said in turns]
    assert only_reason(jsonl(folder, {"messages": turns, "images": ["a.png"]})) == "literal token"


@pytest.mark.parametrize("answer", ["", "  \n", None, []])
def test_an_empty_answer(folder: Path, answer: Any) -> None:
    assert only_reason(jsonl(folder, chat_of("a.png", answer=answer))) == "no label"


def test_no_answer(folder: Path) -> None:
    assert only_reason(jsonl(folder, {"messages": [turn("user", "<image>Which?")], "images": ["a.png"]})) == "no label"


def test_several_answers(folder: Path) -> None:
    record = chat_of("a.png")
    record["messages"] += [turn("user", "Sure?"), turn("assistant", "tiles")]
    assert only_reason(jsonl(folder, record)) == "several answers"


@pytest.mark.parametrize(
    "messages",
    [
        None,
        "hello",
        {},
        ["hello"],
        [{"content": "hello"}],
        [],
        [turn("assistant", "carpet"), turn("user", "<image>Which?")],
        [turn("user", "<image>Which?"), turn("user", "Well?"), turn("assistant", "carpet")],
        [turn("user", "<image>Which?"), turn("system", "s"), turn("assistant", "carpet")],
        [turn("user", "<image>Which?"), turn("tool", "t"), turn("assistant", "carpet")],
        [turn(["user"], "<image>Which?"), turn("assistant", "carpet")],
        [turn("user", ["text"]), turn("assistant", "carpet")],
        [turn("user", [{"type": "image_url"}]), turn("assistant", "carpet")],
        [turn("user", {"text": "Which?"}), turn("assistant", "carpet")],
    ],
)
def test_a_record_that_is_no_chat(folder: Path, messages: Any) -> None:
    assert only_reason(jsonl(folder, {"messages": messages, "images": ["a.png"]})) == "malformed record"


def test_a_surrogate_in_a_chat(folder: Path) -> None:
    assert only_reason(jsonl(folder, chat_of("a.png", user="<image>\ud83d"))) == "invalid text"


def test_the_first_record_says_what_the_file_is(folder: Path) -> None:
    usable, rejected = read(jsonl(folder, chat_of("a.png"), {"image": "b.png", "label": "tiles"}))
    assert usable["row"].tolist() == [0]
    assert rejected["reason"].tolist() == ["malformed record"]
    usable, rejected = read(jsonl(folder, {"image": "b.png", "label": "tiles"}, chat_of("a.png")))
    assert usable["row"].tolist() == [0]
    assert rejected["reason"].tolist() == ["not exactly one image"]


# Files


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("own.xlsx", b"PK", "suffix '.xlsx' is not known"),
        ("own.json", b"[]", "suffix '.json' is not known"),
        ("own.jsonl", b'{"image": "a.png", "label": "x"}\n{"image"', "line 2 is not JSON"),
        ("own.jsonl", b'{"image": "a.png", "label": NaN}', "line 1 is not JSON"),
        ("own.jsonl", b'{"image": "\xd7\xdf.png"}', "line 1, byte 12 is not UTF-8"),
        ("own.csv", b"image,label\n\xd7\xdf.png,x", "line 2, byte 13 is not UTF-8"),
        ("own.jsonl", b"", "has no rows"),
        ("own.jsonl", b"\n\r\n", "has no rows"),
        ("own.csv", b"image,label\n", "has no rows"),
        ("own.csv", b"", "not readable as CSV"),
        ("own.parquet", b"PAR1", "not readable as parquet"),
        ("own.csv", b"image,class\na.png,x\n", r"lacks the column\(s\) \['label'\]"),
        ("own.jsonl", b'{"image": "a.png"}', r"lacks the column\(s\) \['label'\]"),
        ("own.jsonl", b"[1]", r"lacks the column\(s\) \['image', 'label'\]"),
    ],
)
def test_a_file_that_is_no_table(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read(folder / name)
    assert str(caught.value).startswith(FIELD)


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl", "sub", "none.txt"])
def test_a_file_that_is_not_there(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{FIELD} .*no such file"):
        read(folder / name)


# Rows in and rows out

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from(["a.png", "b.png", "sub/d.png", "z.png", "../x.png", ""]) | JSON
LABELS = st.sampled_from(["carpet", "tiles", ""]) | JSON
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image"]), "text": JSON, "image": NAMES}) | JSON
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": LABELS | PARTS | st.just("<image>Which?")}
)
TABLE = st.fixed_dictionaries({"image": NAMES, "label": LABELS, "group": LABELS})
CHATS = st.builds(chat_of, NAMES, answer=LABELS) | st.fixed_dictionaries(
    {"messages": st.lists(TURNS, max_size=4) | JSON, "images": st.lists(NAMES, max_size=2) | NAMES}
)


# The first record says what the file is.
FILES = st.lists(TABLE, min_size=1, max_size=6) | st.lists(CHATS | JSON, max_size=6).map(
    lambda records: [chat_of("c.png"), *records]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(records=FILES)
def test_every_row_is_usable_or_refused(folder: Path, records: list[Any]) -> None:
    usable, rejected = read(jsonl(folder, *records))
    assert sorted([*usable["row"], *rejected["row"]]) == list(range(len(records)))
    assert usable["row"].is_monotonic_increasing
    assert rejected["row"].is_monotonic_increasing
    assert usable["image"].is_unique
    usable.to_parquet(folder / "usable.parquet")
    rejected.to_parquet(folder / "rejected.parquet")
