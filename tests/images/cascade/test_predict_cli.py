"""``assay predict``: what it prints, writes and returns, also when it is stopped."""

import csv
import io
import os
import pty
import shutil
import signal
import subprocess
import termios
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pillow_heif
import psutil
import pytest
from PIL import Image

from assay.data.path_text import unescape_path
from assay.images.cascade import model as cascade_model
from assay.images.cascade.predict import COLUMNS

Assay = Callable[..., tuple[int, bytes, str]]
Start = Callable[..., "subprocess.Popen[bytes]"]


def parsed(output: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output.decode("utf-8"))))


def test_a_folder_as_csv_on_standard_output(assay: Assay, images: Path) -> None:
    status, output, error = assay("images")
    # No terminal, no bar: standard error is the summary alone.
    assert (status, error) == (0, "24 input(s), 0 error(s)\n")
    rows = parsed(output)
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [f"images/{name}" for name in sorted(os.listdir(images))]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["decided_by"] for row in rows} == {"stage1", "ensemble"}


def test_a_name_that_a_spreadsheet_would_run_is_marked_on_request(assay: Assay, images: Path, tmp_path: Path) -> None:
    name = "=HYPERLINK(A1).png"
    shutil.copy(images / "00.png", tmp_path / name)
    for options, wanted in (([], name), (["--safe-csv"], f"'{name}")):
        status, output, _ = assay(name, *options)
        (row,) = parsed(output)
        assert (status, row["path"]) == (0, wanted)


def test_explain_says_what_leaks_beside_the_rows(assay: Assay, images: Path) -> None:
    plain, told = assay("images"), assay("images", "--explain")
    assert told[:2] == plain[:2], "the rows are the same"
    assert told[2] == "forged that leave as real: 10.0% on tune\n  on test: 13.1%\n" + plain[2]


def test_an_image_unlike_all_seen_is_judged_with_a_warning(assay: Assay, images: Path, monkeypatch) -> None:
    load = cascade_model.load

    def with_a_closer_bound(models: Path, **options: str) -> cascade_model.Cascade:
        return replace(load(models, **options), unlike_distance=1e-3)

    monkeypatch.setattr(cascade_model, "load", with_a_closer_bound)
    status, output, error = assay("images/00.png")
    (row,) = parsed(output)
    assert (status, row["status"], row["warning"]) == (0, "ok", "unlike_all_seen")
    assert row["verdict"] in ("real", "forged")
    assert "1 with the warning unlike_all_seen: their verdicts mean little" in error


def test_of_a_phones_folder_every_picture_is_a_row_and_the_rest_is_counted(assay, images, tmp_path):
    pillow_heif.register_heif_opener()
    (tmp_path / "phone").mkdir()
    with Image.open(images / "00.png") as picture:
        picture.convert("RGB").resize((96, 64)).save(tmp_path / "phone/IMG_0.HEIC")
        picture.convert("RGB").save(tmp_path / "phone/share.avif")
    (tmp_path / "phone/IMG_1.HEIC").write_bytes((images / "01.jpg").read_bytes())
    (tmp_path / "phone/IMG_2").write_bytes((images / "01.jpg").read_bytes())
    for name in ("IMG_0.MOV", "IMG_0.AAE", "IMG_1.MOV", ".DS_Store"):
        (tmp_path / "phone" / name).write_bytes(b"no picture")
    status, output, error = assay("phone")
    assert status == 0
    assert [Path(row["path"]).name for row in parsed(output)] == ["IMG_0.HEIC", "IMG_1.HEIC", "IMG_2", "share.avif"]
    assert error == "4 input(s), 0 error(s)\nnot judged: 2 .mov, 1 hidden, 1 .aae\n"
    (tmp_path / "phone/IMG_3.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    (tmp_path / "phone/IMG_4.CR2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0")
    status, output, _ = assay("phone")
    assert status == 3
    reasons = [row["reason"].split(":")[0] for row in parsed(output)]
    assert reasons == ["", "", "", "truncated", "unsupported_format", ""]


def test_bad_inputs_are_rows_and_status_3(assay: Assay, images: Path, tmp_path: Path) -> None:
    odd = [b"two\nlines.jpg", b'comma,"quote".jpg', b"latin\xe9.jpg", b"-dash.jpg"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes((images / "01.jpg").read_bytes())
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    listed = b"\0".join([*odd, b"images/00.png", b"images/00.png", b"text.png", b"gone.png", b"empty"])
    for suffix in ("csv", "parquet"):
        output = f"new/rows.{suffix}"
        found = assay("-", "-0", "--batch-size", "4", "--output", output, stdin=listed)
        assert found[:2] == (3, b"")
        assert f"9 input(s), 3 error(s), in {output}" in found[2]
    rows = pd.read_csv(tmp_path / "new/rows.csv", dtype=object, keep_default_na=False)
    others = pd.read_parquet(tmp_path / "new/rows.parquet").astype(object).fillna("")
    assert rows.to_dict("records") == others.map(str).to_dict("records")
    assert [os.fsencode(unescape_path(path)) for path in rows["path"]] == listed.split(b"\0")
    reasons = ["not_an_image", "not_a_file", "no_pictures"]
    assert [reason.split(":")[0] for reason in rows["reason"]] == [""] * 6 + reasons
    # On some processors a sum depends on the place in a batch: docs/predict.md says by how much.
    same = rows.iloc[4:6].drop(columns="probability")
    assert same.iloc[0].equals(same.iloc[1])
    assert float(rows["probability"][4]) == pytest.approx(float(rows["probability"][5]), abs=2e-6)
    # In a batch of its own a picture that is given twice is the same row to the last digit.
    one, two = parsed(assay("images/00.png", "images/00.png", "--batch-size", "1")[1])
    assert one == two
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["rows.csv", "rows.parquet"]


def test_names_that_are_not_utf8_go_through_arguments_and_standard_output(start: Start, images: Path) -> None:
    name = b"-latin\xe9 and-dash.png"
    (images / "00.png").rename(images.parent / os.fsdecode(name))
    process = start("--", name, b"./" + name, stdout=subprocess.PIPE)
    rows = parsed(process.communicate(timeout=240)[0])
    assert process.returncode == 0
    assert [os.fsencode(unescape_path(row["path"])) for row in rows] == [name, b"./" + name]
    assert rows[0]["probability"] == rows[1]["probability"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nowhere", "x.png"], "no nowhere/cascade/cascade.json: run dvc repro evaluate_cascade"),
        (["x.png", "--output", "rows.xls"], "suffix '.xls' is not known; use .csv, .jsonl, .parquet"),
        (["x.png", "--output", "rows.jsonl", "--safe-csv"], "--safe-csv says how CSV is written, and none is here"),
        (["x.png", "--batch-size", "0"], "0 is not at least 1"),
        (["-"], "holds NUL bytes: give --null"),
        (["-", "--output", "rows.csv"], "holds NUL bytes: give --null"),
    ],
)
def test_what_can_not_be_done_is_one_message_and_status_2(assay, tmp_path, arguments, message):
    status, output, error = assay(*arguments, stdin=b"a.png\0b.png\0")
    assert (status, output) == (2, b"")
    last = error.splitlines()[-1]
    assert last.startswith("assay predict: ")
    assert message in last
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_early_is_no_error(start: Start, images: Path, tmp_path: Path) -> None:
    """As with ``| head -1``: the reader closes the pipe after a line, long before the list is at its end."""
    (tmp_path / "list.txt").write_bytes(b"images/00.png\n" * 20_000)
    with (tmp_path / "list.txt").open("rb") as stdin:
        process = start("-", stdin=stdin.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().decode() == ",".join(COLUMNS) + "\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=240) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_leaves_no_output(start, images, tmp_path, sent):
    """The list stays open, so the run can't end by itself."""
    output = tmp_path / "results"
    options = ("-", "--output", "results/rows.csv", "--batch-size", "1")
    process = start(*options, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"images/00.png\n" * 50)
    process.stdin.flush()
    deadline = time.monotonic() + 240
    while not (output.is_dir() and list(output.iterdir())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # All that SIGKILL could leave: half a file under a hidden name.
    assert [path.name.startswith(".rows.") for path in output.iterdir()] == [True]
    process.send_signal(sent)
    error = process.communicate()[1].decode()
    assert process.returncode == 128 + sent
    assert list(output.iterdir()) == []
    assert "Traceback" not in error
    if sent == signal.SIGINT:
        assert error == "assay predict: interrupted; results/rows.csv is not written\n"


def slow_picture(path: Path, chunks: int) -> None:
    """A sound PNG with so many empty chunks that its parser takes microseconds for each."""
    with Image.open(path) as picture:
        picture.save(buffer := io.BytesIO(), "PNG")
    data, empty = buffer.getvalue(), b"\0\0\0\0abCd" + zlib.crc32(b"abCd").to_bytes(4, "big")
    path.write_bytes(data[:33] + empty * chunks + data[33:])


def test_a_picture_that_takes_too_long_is_a_row_and_the_others_are_judged(assay: Assay, images: Path) -> None:
    slow_picture(images / "03.png", 3_000_000)
    status, output, _ = assay("images", "--max-seconds", "1")
    assert status == 3
    reasons = {row["path"]: row["reason"].split(" than")[0] for row in parsed(output) if row["status"] == "error"}
    assert reasons == {"images/03.png": "too_slow: more"}
    os.truncate(images / "04.jpg", 3 * 2**30)
    _, output, _ = assay("images/04.jpg", "images/00.png", "--max-bytes", str(2**20))
    reasons = [row["reason"] for row in parsed(output)]
    assert reasons == ["too_many_bytes: a file of 3221225472 bytes, at most 1048576 are taken", ""]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_slow_picture_does_not_hold_up_the_end(start: Start, images: Path, sent: int) -> None:
    slow_picture(images / "00.png", 12_000_000)
    process = start("images/00.png", "--max-seconds", "3000", "-o", "rows.csv", stderr=subprocess.PIPE)
    readers: list[psutil.Process] = []
    while not any(reader.cpu_times().user > 2 for reader in readers):  # it has begun to parse
        assert process.poll() is None
        time.sleep(0.05)
        readers = psutil.Process(process.pid).children()
    begin = time.monotonic()
    process.send_signal(sent)
    error = process.communicate(timeout=60)[1].decode()
    assert time.monotonic() - begin < 20  # of which a busy machine takes most
    assert process.returncode == 128 + sent
    assert "Traceback" not in error
    assert not psutil.wait_procs(readers, timeout=10)[1]


def test_a_bar_is_shown_on_a_terminal(start: Start, images: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = start("images", "-o", "rows.csv", stdin=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 4096):
            shown += block
    except OSError:  # how a terminal says that its other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=240) == 0
    assert b"predicting" in shown
    assert shown.endswith(b"24 input(s), 0 error(s), in rows.csv\r\n")
