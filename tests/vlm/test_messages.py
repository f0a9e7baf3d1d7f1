"""Chats about one picture: what may be said in them, and the file they live in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
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


def test_the_form_is_that_of_llama_factory_and_ms_swift():
    assert record(sample_id="0a", label="carpet") == {
        "messages": [
            {"role": "system", "content": "Sort corridors."},
            {"role": "user", "content": "<image>Which class?"},
            {"role": "assistant", "content": "carpet"},
        ],
        "images": ["a.jpg"],
        "sample_id": "0a",
        "label": "carpet",
    }


def test_without_an_answer_there_is_no_turn_of_the_assistant():
    assert [turn["role"] for turn in record(answer=None)["messages"]] == ["system", "user"]


@pytest.mark.parametrize("field", ["system", "question", "answer"])
@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, *PLACEHOLDERS])
def test_a_literal_token_is_refused(field, token):
    with pytest.raises(ValueError, match=field) as caught:
        record(**{field: f"see {token} here"})
    assert token in str(caught.value)


@pytest.mark.parametrize("field", ["system", "question", "answer"])
@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(field, text):
    with pytest.raises(ValueError, match=f"{field}.*not empty"):
        record(**{field: text})


@pytest.mark.parametrize("field", ["system", "question", "answer"])
def test_a_surrogate_is_refused(field):
    with pytest.raises(ValueError, match=rf"{field}.*U\+D800"):
        record(**{field: "a \ud800 b"})


@pytest.mark.parametrize("image", ["", "a\udcff.jpg", None])
def test_an_image_that_no_file_can_name_is_refused(image):
    with pytest.raises(ValueError, match="images"):
        record(image=image)


@pytest.mark.parametrize("key", ["messages", "images"])
def test_extra_keys_replace_nothing(key):
    with pytest.raises(ValueError, match=key):
        record(**{key: []})


def test_literal_tokens_names_each_once_and_is_silent_about_lookalikes():
    assert literal_tokens("<|im_end|> <image> <|im_end|> <|image_pad|>") == ["<|im_end|>", "<|image_pad|>", "<image>"]
    assert literal_tokens("an <img>, < image >, |im_end|, image_pad and a < b > c") == []


def test_chat_is_what_the_processor_takes():
    assert chat(record()) == [
        {"role": "system", "content": [{"type": "text", "text": "Sort corridors."}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which class?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "carpet"}]},
    ]
    assert [turn["role"] for turn in chat(record(answer=None))] == ["system", "user"]


@pytest.mark.parametrize(
    "broken",
    [
        [],
        {},
        {"messages": "hello", "images": ["a.jpg"]},
        {"messages": ["hello", "you"], "images": ["a.jpg"]},
        {"messages": [{"role": "system", "content": "s"}], "images": ["a.jpg"]},
        record() | {"images": ["a.jpg", "b.jpg"]},
        record() | {"images": []},
        record() | {"images": "a.jpg"},
        record() | {"messages": record()["messages"] + record()["messages"][1:]},
        record() | {"messages": record()["messages"][::-1]},
        record() | {"messages": [record()["messages"][0], {"role": "user", "content": "Which class?"}]},
        record() | {"messages": [record()["messages"][0], {"role": "user", "content": ["<image>", "which?"]}]},
        record() | {"messages": [record()["messages"][0], {"role": "user", "content": "<image><image>Which?"}]},
    ],
)
def test_other_records_are_refused_by_chat_reader_and_writer(tmp_path: Path, broken):
    with pytest.raises(ValueError, match=r"messages|images|question"):
        chat(broken)
    with pytest.raises(ValueError, match="record 1: "):
        write_messages(tmp_path / "a.jsonl", [record(), broken])
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.jsonl").write_text(f"{json.dumps(record())}\n{json.dumps(broken)}\n")
    with pytest.raises(ValueError, match=r"b\.jsonl: record 1: "):
        read_messages(tmp_path / "b.jsonl")


@given(system=TEXTS, question=TEXTS, answer=st.none() | TEXTS, group=TEXTS)
def test_what_is_written_is_read(tmp_path_factory, system, question, answer, group):
    path = tmp_path_factory.mktemp("round") / "chats.jsonl"
    records = [record(system=system, question=question, answer=answer, group=group), record()]
    write_messages(path, records)
    assert read_messages(path) == records
    first = path.read_bytes()
    write_messages(path, read_messages(path))
    assert path.read_bytes() == first


def test_the_file_is_utf8_with_sorted_keys_and_line_feeds(tmp_path: Path):
    write_messages(tmp_path / "a.jsonl", [record(answer="地毯\r\n走廊\u2028", sample_id="0a")] * 2)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert b"\r" not in content
    assert "地毯" in content.decode("utf-8")
    assert list(json.loads(content.split(b"\n")[0])) == ["images", "messages", "sample_id"]


@pytest.mark.parametrize("extra", [float("nan"), {1, 2}, "\ud800", object()])
def test_extra_values_that_json_cannot_hold_are_refused(tmp_path: Path, extra):
    with pytest.raises(ValueError, match="record 0: "):
        write_messages(tmp_path / "a.jsonl", [record(extra=extra)])
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    write_messages(path, [record()])
    with pytest.raises(ValueError, match="record 1"):
        write_messages(path, [record(), {}])
    assert read_messages(path) == [record()]


def test_no_records_are_an_empty_file(tmp_path: Path):
    write_messages(tmp_path / "a.jsonl", [])
    assert read_messages(tmp_path / "a.jsonl") == []


def test_a_byte_order_mark_crlf_and_blank_lines_are_read(tmp_path: Path):
    lines = "\r\n".join([json.dumps(record()), "", json.dumps(record(answer=None)), ""])
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert read_messages(tmp_path / "a.jsonl") == [record(), record(answer=None)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}\n{", "line 2 is not JSON"),
        (b'{"a": NaN}', "line 1 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b"{}\n\xff\xfe", "line 2, byte 4 is not UTF-8"),
    ],
)
def test_a_file_that_is_not_json_lines_is_refused(tmp_path: Path, content, words):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jsonl: {words}"):
        read_messages(tmp_path / "a.jsonl")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no such file"):
        read_messages(tmp_path / "a.jsonl")


def test_the_module_is_light():
    code = "import sys, assay.vlm.messages; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"PIL", "torch", "transformers", "numpy", "pandas"} & set(done.stdout.split())
