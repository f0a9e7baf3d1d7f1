"""``assay predict`` as a process: what it prints, writes and returns, also when it is stopped."""

from __future__ import annotations

import csv
import io
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from assay.data.image_inputs import unescape_path
from assay.images.cascade.predict import COLUMNS

ROOT = Path(__file__).parents[3]
Assay = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_a_folder_as_csv_on_standard_output(assay: Assay, pictures: Path) -> None:
    done = assay("pictures")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8"))))
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == [f"pictures/{name}" for name in sorted(os.listdir(pictures))]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["decided_by"] for row in rows} == {"stage1", "ensemble"}
    # No terminal, no bar: standard error is the summary alone.
    assert done.stderr.decode() == "24 input(s), 0 error(s)\n"


def test_bad_inputs_are_rows_and_status_3(assay: Assay, pictures: Path, tmp_path: Path) -> None:
    odd = [b"two\nlines.jpg", b'comma,"quote".jpg', b"latin\xe9.jpg", b"-dash.jpg"]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes((pictures / "01.jpg").read_bytes())
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    listed = b"\0".join([*odd, b"pictures/00.png", b"pictures/00.png", b"text.png", b"gone.png", b"empty"])
    found = {}
    for suffix in ("csv", "parquet"):
        done = assay("-", "-0", "--batch-size", "4", "--output", f"new/rows.{suffix}", stdin=listed, LC_ALL="C")
        assert done.returncode == 3, done.stderr
        assert done.stdout == b""
        assert f"9 input(s), 3 error(s), in new/rows.{suffix}" in done.stderr.decode()
    found["csv"] = pd.read_csv(tmp_path / "new/rows.csv", dtype=object, keep_default_na=False).to_dict("records")
    frame = pd.read_parquet(tmp_path / "new/rows.parquet")
    found["parquet"] = [
        {k: "" if pd.isna(v) else str(v) for k, v in row.items()} for row in frame.to_dict(orient="records")
    ]
    assert found["csv"] == found["parquet"]
    assert [os.fsencode(unescape_path(row["path"])) for row in found["csv"]] == listed.split(b"\0")
    reasons = [row["reason"].split(":")[0] for row in found["csv"]]
    assert reasons == [""] * 6 + ["not_an_image", "not_a_file", "no_pictures"]
    assert found["csv"][4] == found["csv"][5]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["rows.csv", "rows.parquet"]


def test_names_that_are_not_utf8_go_through_arguments_and_standard_output(assay: Assay, pictures: Path) -> None:
    name = b"latin\xe9 and-dash.png"
    (pictures / "00.png").rename(pictures.parent / os.fsdecode(b"-" + name))
    done = assay("--", b"-" + name, b"./-" + name)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8"))))
    assert [os.fsencode(unescape_path(row["path"])) for row in rows] == [b"-" + name, b"./-" + name]
    assert rows[0]["probability"] == rows[1]["probability"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nowhere", "x.png"], "no nowhere/cascade/cascade.json: run dvc repro evaluate_cascade"),
        (["x.png", "--output", "rows.xls"], "suffix '.xls' is not known; use .csv, .jsonl, .parquet"),
        (["x.png", "--batch-size", "0"], "0 is not at least 1"),
    ],
)
def test_what_can_not_be_done_is_one_message_and_status_2(
    assay: Assay, tmp_path: Path, arguments: list[str], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    done = assay(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("assay predict: ")
    assert message in last
    assert b"Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def start(models: Path, folder: Path, *arguments: str, **streams: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "assay.cli", "predict", "--models", str(models), "--device", "cpu", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    environment.pop("TQDM_DISABLE", None)

    def heed_interrupts() -> None:
        # A shell's background job ignores SIGINT, and would hand that on to what is started here.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=heed_interrupts, **streams)


def test_a_reader_that_stops_early_is_no_error(tiny_models: Path, pictures: Path, tmp_path: Path) -> None:
    """As with ``| head -1``: the reader closes the pipe after a line, long before the list is at its end."""
    listed = b"pictures/00.png\n" * 20_000
    (tmp_path / "list.txt").write_bytes(listed)
    with (tmp_path / "list.txt").open("rb") as stdin:
        process = start(
            tiny_models, tmp_path, "-", stdin=stdin.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().decode() == ",".join(COLUMNS) + "\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=240) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_output(
    tiny_models: Path, pictures: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    """The list stays open, so the run can't end by itself; half a file lies under a hidden name at most."""
    output = tmp_path / "results"
    process = start(
        tiny_models,
        tmp_path,
        *("-", "--output", "results/rows.csv", "--batch-size", "1"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"pictures/00.png\n" * 50)
    process.stdin.flush()
    deadline = time.monotonic() + 240
    while not (output.is_dir() and list(output.iterdir())):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sent)
    error = process.communicate()[1].decode()
    left = list(output.iterdir())
    if sent == signal.SIGKILL:
        assert process.returncode == -sent
        assert [path.name.startswith(".rows.") for path in left] == [True]
    else:
        assert process.returncode == 128 + sent
        assert left == []
        assert "Traceback" not in error
    if sent == signal.SIGINT:
        assert error == "assay predict: interrupted; results/rows.csv is not written\n"


def test_a_bar_is_shown_on_a_terminal(tiny_models: Path, pictures: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = start(tiny_models, tmp_path, "pictures", "-o", "rows.csv", stdin=subprocess.DEVNULL, stderr=theirs)
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
