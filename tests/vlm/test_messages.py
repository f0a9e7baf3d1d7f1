"""Chats about one image: what may be said in them, and the file they live in."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.vlm.messages import (
    PLACEHOLDERS,
    SPECIAL_TOKENS,
    chat,
    literal_tokens,
    messages_record,
    read_messages,
    write_messages,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text.strip() and not literal_tokens(text)
)


def record(**changes: Any) -> dict[str, Any]:
    fields = {"system": "Sort corridors.", "question": "Which class?", "answer": "carpet", **changes}
    return messages_record(fields.pop("image", "a.jpg"), **fields)


def test_the_form_is_that_of_llama_factory_and_ms_swift_and_chat_is_what_the_processor_takes():
    made = record(sample_id="0a", label="carpet")
    assert made == {
        "messages": [
            {"role": "system", "content": "Sort corridors."},
            {"role": "user", "content": "<image>Which class?"},
            {"role": "assistant", "content": "carpet"},
        ],
        "images": ["a.jpg"],
        "sample_id": "0a",
        "label": "carpet",
    }
    turns = chat(made)
    assert turns == [
        {"role": "system", "content": [{"type": "text", "text": "Sort corridors."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which class?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "carpet"}]},
    ]
    assert chat(record(answer=None)) == turns[:2]


@pytest.mark.parametrize("field", ["system", "question", "answer"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((f"see {token} here", re.escape(token)) for token in (*SPECIAL_TOKENS, *PLACEHOLDERS)),
        ("", "not empty"),
        (" \n\t", "not empty"),
        ("a \ud800 b", r"U\+D800"),
    ],
)
def test_a_text_that_no_chat_may_hold_is_an_error(field, text, words):
    with pytest.raises(ValueError, match=f"{field}.*{words}"):
        record(**{field: text})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(({"image": image}, "images") for image in ("", "a\udcff.jpg", None)),
        *(({key: []}, key) for key in ("messages", "images")),
    ],
)
def test_an_image_that_no_file_can_name_and_a_key_that_is_taken_are_errors(changes, words):
    with pytest.raises(ValueError, match=words):
        record(**changes)


def test_literal_tokens_names_each_once_and_is_silent_about_lookalikes():
    assert literal_tokens("<|im_end|> <image> <|im_end|> <|image_pad|>") == ["<|im_end|>", "<|image_pad|>", "<image>"]
    assert literal_tokens("an <img>, < image >, |im_end|, image_pad and a < b > c") == []


SYSTEM, USER, ASSISTANT = record()["messages"]


def chat_with(*turns: Any) -> dict[str, Any]:
    return record() | {"messages": list(turns)}


@pytest.mark.parametrize(
    "broken",
    [
        [],
        *(record() | {"images": images} for images in (["a.jpg", "b.jpg"], [], "a.jpg")),
        record() | {"messages": "hello"},
        chat_with("hello", "you"),
        chat_with(SYSTEM),
        chat_with(SYSTEM, USER, ASSISTANT, USER, ASSISTANT),
        chat_with(ASSISTANT, USER, SYSTEM),
        *(chat_with(SYSTEM, USER | {"content": said}) for said in ("Which?", ["<image>", "?"], "<image><image>?")),
        chat_with(SYSTEM, USER, ASSISTANT | {"content": "<|image_pad|>"}),
    ],
)
def test_other_records_are_errors_for_chat_reader_and_writer(tmp_path, broken):
    with pytest.raises(ValueError, match=r"messages|images|question|answer"):
        chat(broken)
    with pytest.raises(ValueError, match="record 1: "):
        write_messages(tmp_path / "a.jsonl", [record(), broken])
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(record())}\n{json.dumps(broken)}\n")
    with pytest.raises(ValueError, match=r"b\.jsonl: (record 1: |line 2 is no object)"):
        read_messages(tmp_path / "b.jsonl")


@settings(deadline=None)
@given(system=TEXTS, question=TEXTS, answer=st.none() | TEXTS, group=TEXTS)
def test_what_is_written_is_read(tmp_path_factory, system, question, answer, group):
    path = tmp_path_factory.mktemp("round") / "chats.jsonl"
    records = [record(system=system, question=question, answer=answer, group=group), record()]
    write_messages(path, records)
    assert read_messages(path) == records
    first = path.read_bytes()
    write_messages(path, read_messages(path))
    assert path.read_bytes() == first


def test_the_file_is_utf8_with_sorted_keys_and_line_feeds(tmp_path):
    write_messages(tmp_path / "a.jsonl", [record(answer="地毯\r\n走廊\u2028", sample_id="0a")] * 2)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert b"\r" not in content
    assert "地毯" in content.decode("utf-8")
    assert list(json.loads(content.split(b"\n")[0])) == ["images", "messages", "sample_id"]


@pytest.mark.parametrize("extra", [float("nan"), {1, 2}, "\ud800", object()])
def test_extra_values_that_json_cannot_hold_are_errors(tmp_path, extra):
    path = tmp_path / "a.jsonl"
    write_messages(path, [])
    with pytest.raises(ValueError, match="record 1: "):
        write_messages(path, [record(), record(extra=extra)])
    # The old file is kept.
    assert read_messages(path) == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}\n{", "line 2 is not JSON"),
        (b'{"a": NaN}', "line 1 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b"{}\n\xff\xfe", "line 2, byte 4 is not UTF-8"),
        (None, ".*No such file"),
    ],
)
def test_a_file_that_is_not_json_lines_or_not_there_is_an_error(tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jsonl: {words}"):
        read_messages(tmp_path / "a.jsonl")
